/// A point in a run: the number of guest instructions retired since power-on.
///
/// It is the only time inside the machine; everything that enters is stamped with it. An instruction that faults is
/// not counted; `HLT` is; a `REP` string instruction counts one for every slice it is executed in (see
/// `docs/architecture.md`, "Counting").
package typealias Position = UInt64

/// Virtual time since power-on, in nanoseconds.
package typealias VirtualTime = UInt64
