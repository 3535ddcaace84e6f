/// What executes translated blocks. Results, positions and digests are the same with either.
package enum EngineKind: String, Sendable, CaseIterable {
    case interpreter, x64

    /// The fastest that this host can have.
    package static var best: EngineKind {
        #if arch(x86_64)
            .x64
        #else
            .interpreter
        #endif
    }
}
