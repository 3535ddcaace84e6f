#if SDL
    import Boundary
    import CSDL
    import Glibc
    import Synchronization

    /// The host's sound card, by SDL 2.
    package enum SDLSound {
        private static let started = Mutex(false)

        /// Starts the library's part for sound. Once or more often.
        /// - Parameters:
        ///   - option: what messages begin with.
        ///   - hasWindow: a window looks at the library's events. Where none does, signals must not become events.
        static func start(_ option: String, hasWindow: Bool) throws {
            try started.withLock { started in
                if started { return }
                if !hasWindow { SDL_SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1") }
                guard SDL_InitSubSystem(SDL_INIT_AUDIO) == 0 else { throw problem(option) }
                started = true
            }
        }

        fileprivate static func problem(_ option: String) -> BackendError {
            BackendError("\(option): the host's sound card cannot be opened: \(String(cString: SDL_GetError()))")
        }

        /// Frames that go to or come from the card at a time: 11 to 64 ms.
        fileprivate static func specification(rate: UInt32, _ callback: @escaping SDL_AudioCallback, _ context: UnsafeMutableRawPointer)
            -> SDL_AudioSpec
        {
            var specification = SDL_AudioSpec()
            specification.freq = Int32(clamping: rate)
            specification.format = SDL_AudioFormat(AUDIO_S16LSB)
            specification.channels = 2
            specification.samples = rate > 24_000 ? 1024 : 512
            specification.callback = callback
            specification.userdata = context
            return specification
        }
    }

    /// Plays on the host's default sound card. The machine puts samples into a ring, from which the library takes them on a thread of its
    /// own; another thread opens the card anew when the rate changes, for that takes long.
    package final class SDLPlayer: SoundOutput {
        private struct Shared {
            /// One for each rate, in turn; the last is the one that is filled.
            var rings: [SampleRing] = []
            var device: SDL_AudioDeviceID
            var rate: UInt32
            var isFinished = false
            var isClosed = false
        }
        /// A guest that changes its rate all the time loses sound, and no memory.
        private static let mostRings = 8
        private static let firstRate: UInt32 = 48_000
        private let shared: Mutex<Shared>
        /// What the card plays now.
        private let playing: Playing
        private let report: @Sendable (String) -> Void

        private final class Playing: Sendable {
            let ring = Mutex<SampleRing?>(nil)
        }

        /// - Parameters:
        ///   - hasWindow: see `SDLSound.start`.
        ///   - report: tells the user of a card that cannot be opened again.
        package init(hasWindow: Bool, report: @escaping @Sendable (String) -> Void) throws {
            try SDLSound.start("--audio sdl", hasWindow: hasWindow)
            let playing = Playing()
            let device = Self.open(rate: Self.firstRate, playing)
            if device == 0 { throw SDLSound.problem("--audio sdl") }
            self.playing = playing
            self.report = report
            shared = Mutex(Shared(device: device, rate: Self.firstRate))
            SDL_PauseAudioDevice(device, 0)
            // The thread keeps the player, and so what the library's thread looks at.
            BackgroundThread.start { [self] in
                while serve() { usleep(10_000) }
            }
        }

        private static func open(rate: UInt32, _ playing: Playing) -> SDL_AudioDeviceID {
            var wanted = SDLSound.specification(
                rate: rate,
                { context, buffer, count in
                    let playing = Unmanaged<Playing>.fromOpaque(context!).takeUnretainedValue()
                    let target = UnsafeMutableRawBufferPointer(start: buffer, count: Int(count))
                    if let ring = playing.ring.withLock({ $0 }) {
                        ring.take(into: target)
                    } else {
                        target.initializeMemory(as: UInt8.self, repeating: 0)
                    }
                }, Unmanaged.passUnretained(playing).toOpaque())
            // No changes allowed: the library converts what the card has not.
            return SDL_OpenAudioDevice(nil, 0, &wanted, nil, 0)
        }

        package func play(_ frames: ArraySlice<UInt8>, rate: UInt32) {
            shared.withLock { shared -> SampleRing? in
                if let last = shared.rings.last, last.rate == rate { return last }
                shared.rings.last?.end()
                if shared.rings.count >= Self.mostRings { return nil }
                let ring = SampleRing(rate: rate)
                shared.rings.append(ring)
                return ring
            }?.put(frames)
        }

        /// The control thread's look: goes on to the next ring when the present one is over. False: the card is closed.
        private func serve() -> Bool {
            let (ring, device, rate, isFinished) = shared.withLock { shared in
                if let first = shared.rings.first, first.isOver { shared.rings.removeFirst() }
                return (shared.rings.first, shared.device, shared.rate, shared.isFinished)
            }
            if isFinished, ring == nil {
                if device != 0 { SDL_CloseAudioDevice(device) }
                shared.withLock { $0.isClosed = true }
                return false
            }
            guard let ring else { return true }
            if ring.rate != rate {
                // Waits until the card has played what it has.
                if device != 0 { SDL_CloseAudioDevice(device) }
                playing.ring.withLock { $0 = ring }
                let fresh = Self.open(rate: ring.rate, playing)
                if fresh == 0 { report("--audio sdl: \(String(cString: SDL_GetError())): there is no sound now") }
                shared.withLock { ($0.device, $0.rate) = (fresh, ring.rate) }
                if fresh != 0 { SDL_PauseAudioDevice(fresh, 0) }
            } else {
                playing.ring.withLock { $0 = ring }
            }
            return true
        }

        /// Waits until all has been played, three seconds at most.
        package func finish() -> Bool {
            shared.withLock { shared in
                shared.isFinished = true
                for ring in shared.rings { ring.end() }
            }
            for _ in 0..<600 {
                if shared.withLock({ $0.isClosed }) { break }
                usleep(5_000)
            }
            return true
        }
    }

    /// Records from the host's default microphone while the guest does.
    package final class SDLMicrophone: Sendable {
        /// Gets frames, on the library's thread.
        package typealias Receiver = @Sendable (ArraySlice<UInt8>) -> Void

        private final class Recording: Sendable {
            let receive: Receiver
            init(_ receive: @escaping Receiver) { self.receive = receive }
        }
        private struct Shared {
            /// What is wanted: a rate and a receiver, or silence; and how often that has changed.
            var wanted: (rate: UInt32, recording: Recording)?
            var changes = 0
            var isFinished = false
            var isClosed = false
        }
        private let shared = Mutex(Shared())
        private let report: @Sendable (String) -> Void

        /// - Parameters:
        ///   - hasWindow: see `SDLSound.start`.
        ///   - report: tells the user of a microphone that cannot be opened.
        package init(hasWindow: Bool, report: @escaping @Sendable (String) -> Void) throws {
            try SDLSound.start("--microphone sdl", hasWindow: hasWindow)
            // -1: not known.
            if SDL_GetNumAudioDevices(1) == 0 { throw BackendError("--microphone sdl: the host has no microphone") }
            self.report = report
            BackgroundThread.start { [self] in control() }
        }

        /// Begins to record, at `rate` frames a second of two samples of 16 bits each; what was recorded before ends.
        package func start(rate: UInt32, _ receive: @escaping Receiver) {
            shared.withLock { shared in
                shared.wanted = (rate, Recording(receive))
                shared.changes += 1
            }
        }

        package func stop() {
            shared.withLock { shared in
                if shared.wanted == nil { return }
                shared.wanted = nil
                shared.changes += 1
            }
        }

        /// After the run: the microphone is closed, within a second.
        package func finish() {
            shared.withLock { $0.isFinished = true }
            for _ in 0..<200 {
                if shared.withLock({ $0.isClosed }) { break }
                usleep(5_000)
            }
        }

        /// The thread that opens and closes, for both take long.
        private func control() {
            var seen = 0
            var device: SDL_AudioDeviceID = 0
            // Whoever receives, for as long as the library's thread may call.
            var current: Recording?
            while true {
                let (wanted, changes, isFinished) = shared.withLock { ($0.wanted, $0.changes, $0.isFinished) }
                if changes != seen || isFinished {
                    if device != 0 { SDL_CloseAudioDevice(device) }
                    device = 0
                    current = nil
                    seen = changes
                    if isFinished { return shared.withLock { $0.isClosed = true } }
                    if let wanted {
                        current = wanted.recording
                        device = Self.open(rate: wanted.rate, wanted.recording)
                        if device == 0 { report("--microphone sdl: \(String(cString: SDL_GetError())): the guest records silence") }
                        if device != 0 { SDL_PauseAudioDevice(device, 0) }
                    }
                }
                withExtendedLifetime(current) { _ = usleep(10_000) }
            }
        }

        private static func open(rate: UInt32, _ recording: Recording) -> SDL_AudioDeviceID {
            var wanted = SDLSound.specification(
                rate: rate,
                { context, buffer, count in
                    let recording = Unmanaged<Recording>.fromOpaque(context!).takeUnretainedValue()
                    recording.receive(Array(UnsafeRawBufferPointer(start: buffer, count: Int(count) & ~3))[...])
                }, Unmanaged.passUnretained(recording).toOpaque())
            return SDL_OpenAudioDevice(nil, 1, &wanted, nil, 0)
        }
    }
#endif
