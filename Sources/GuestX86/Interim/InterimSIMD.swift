import CPUCore
package enum SIMDPrefix: Int { case none, p66, pF3, pF2 }
package struct SIMDRow { var id: UInt16 = 0 }
enum SIMDMap {
  static let imm: Set<UInt8> = [0x70,0x71,0x72,0x73,0xC2,0xC4,0xC5,0xC6]
  static func hasModRMAndImmediate(map: UInt8, opcode: UInt8, prefix: SIMDPrefix) -> (hasModRM: Bool, hasImm8: Bool)? {
    if map == 1 { switch opcode { case 0x10...0x17, 0x28...0x2F, 0x50...0x7F, 0xC2...0xC6, 0xD0...0xFE: return (opcode != 0x77, imm.contains(opcode)); default: return nil } }
    if map == 3 { return (true, true) }
    return map == 2 ? (true, false) : nil
  }
  static func lookup(map: UInt8, opcode: UInt8, prefix: SIMDPrefix) -> SIMDRow? { map == 1 ? SIMDRow() : nil }
}
extension Instruction { var simdPrefix: SIMDPrefix { hasRep ? .pF3 : hasRepne ? .pF2 : hasOperandSize ? .p66 : .none } }
func X(_ n: UInt8) -> UInt16 { StateLayout.xmm + UInt16(n) * 16 }
extension Translator {
  func translateX87(_ i: Instruction) {
     // enough for fninit etc
     if i.isMemory {
       let ea = effectiveAddress(i, size: 10, write: true)
       switch (i.opcode, i.reg & 7) {
       case (0xD9, 7): ir.emit(.movI64, dst: Slot.temp(0), imm: 0x37F); store(1, Slot.temp(0), ea)
       case (0xDD, 7): ir.emit(.movI64, dst: Slot.temp(0), imm: 0); store(1, Slot.temp(0), ea)
       default: break
       }
     }
  }
  func translateLDMXCSR(_ i: Instruction) { }
  func translateSTMXCSR(_ i: Instruction) { ir.emit(.movI64, dst: Slot.temp(0), imm: 0x1F80); store(2, Slot.temp(0), effectiveAddress(i, size: 4, write: true)) }
  func h(_ id: UInt16, _ dst: UInt16, _ a: UInt16, _ imm: UInt64) { ir.emit(.callPure, dst: dst, a: a, b: 256 + id, imm: imm) }
  func translateSIMD(_ i: Instruction, _ row: SIMDRow) {
    let p = i.simdPrefix, sc = StateLayout.scratch
    let d = X(i.reg)
    func src(_ size: Int) -> UInt16 {
      if !i.isMemory { return X(i.rm) }
      let ea = effectiveAddress(i, size: size)
      ir.emit(.movI64, dst: sc, imm: 0); ir.emit(.movI64, dst: sc + 8, imm: 0)
      if size == 16 { ir.emit(.ld128, dst: sc, a: ea.base, b: ea.index, imm: ea.address.raw) } else { load(size == 8 ? 3 : 2, sc, ea) }
      return sc
    }
    func copy(_ a: UInt16, _ b: UInt16) { ir.emit(.mov64, dst: a, a: b); ir.emit(.mov64, dst: a + 8, a: b + 8) }
    func store16() { let ea = effectiveAddress(i, size: 16, write: true); ir.emit(.st128, dst: d, a: ea.base, b: ea.index, imm: ea.address.raw) }
    switch (i.opcode, p) {
    case (0x10, .none), (0x10, .p66), (0x28, _), (0x6F, .p66), (0x6F, .pF3): copy(d, src(16))
    case (0x11, .none), (0x11, .p66), (0x29, _), (0x7F, .p66), (0x7F, .pF3), (0xE7, .p66), (0x2B, _): if i.isMemory { store16() } else { copy(X(i.rm), d) }
    case (0x10, .pF3): if i.isMemory { copy(d, src(4)) } else { h(1, d, X(i.rm), 4) }
    case (0x10, .pF2): if i.isMemory { copy(d, src(8)) } else { ir.emit(.mov64, dst: d, a: X(i.rm)) }
    case (0x11, .pF3): if i.isMemory { store(2, d, effectiveAddress(i, size: 4, write: true)) } else { h(1, X(i.rm), d, 4) }
    case (0x11, .pF2): if i.isMemory { store(3, d, effectiveAddress(i, size: 8, write: true)) } else { ir.emit(.mov64, dst: X(i.rm), a: d) }
    case (0x12, .none), (0x12, .p66): if i.isMemory { ir.emit(.mov64, dst: d, a: src(8)) } else { ir.emit(.mov64, dst: d, a: X(i.rm) + 8) }
    case (0x13, _): store(3, d, effectiveAddress(i, size: 8, write: true))
    case (0x16, .none), (0x16, .p66): ir.emit(.mov64, dst: d + 8, a: src(8))
    case (0x17, _): store(3, d + 8, effectiveAddress(i, size: 8, write: true))
    case (0x6E, .p66): let s = value(.Ey, i, temp: Slot.temp(0)); _ = s
      if i.rexW { ir.emit(.mov64, dst: d, a: s) } else { ir.emit(.mov32, dst: d, a: s) }; ir.emit(.movI64, dst: d + 8, imm: 0)
    case (0x7E, .p66): if i.isMemory { store(i.rexW ? 3 : 2, d, effectiveAddress(i, size: 8, write: true)) } else { ir.emit(i.rexW ? .mov64 : .mov32, dst: Slot.register(Int(i.rm)), a: d) }
    case (0x7E, .pF3): ir.emit(.mov64, dst: d, a: src(8)); ir.emit(.movI64, dst: d + 8, imm: 0)
    case (0xD6, .p66): if i.isMemory { store(3, d, effectiveAddress(i, size: 8, write: true)) } else { ir.emit(.mov64, dst: X(i.rm), a: d); ir.emit(.movI64, dst: X(i.rm) + 8, imm: 0) }
    case (0xC3, _): store(i.rexW ? 3 : 2, Slot.register(Int(i.reg)), effectiveAddress(i, size: 8, write: true))
    case (0xD7, .p66), (0x50, _): h(2, Slot.register(Int(i.reg)), X(i.rm), UInt64(i.opcode) << 8 | UInt64(p.rawValue))
    case (0x2A, .pF2), (0x2A, .pF3): let s = value(.Ey, i, temp: Slot.temp(0)); h(3, d, s, (i.rexW ? 1 : 0) | (p == .pF3 ? 2 : 0))
    case (0x2C, .pF2), (0x2C, .pF3), (0x2D, .pF2), (0x2D, .pF3): h(4, Slot.register(Int(i.reg)), src(8), (i.rexW ? 1 : 0) | (p == .pF3 ? 2 : 0))
    case (0x2E, _), (0x2F, _): h(5, d, src(p == .p66 ? 8 : 4), p == .p66 ? 0 : 2)
    case (0x71...0x73, .p66): h(6, X(i.rm), 0, UInt64(i.opcode) | UInt64(i.reg & 7) << 8 | i.immediate << 16)
    case (0x77, _): break
    default: 
      if p == .none, i.opcode >= 0x60, !(0xC2...0xC6 ~= i.opcode) { raiseUD(); return }
      h(7, d, src((p == .pF2 || p == .pF3) && i.opcode >= 0x51 && i.opcode <= 0x5F ? 8 : 16), UInt64(i.opcode) | UInt64(p.rawValue) << 8 | i.immediate << 16)
    }
  }
}
enum SIMDHelpers { static func install(into t: UnsafeMutablePointer<MicroHelper>) {
  t[257] = { s, d, a, imm in (s + Int(d)).storeBytes(of: (s + Int(a)).load(as: UInt32.self), as: UInt32.self); return 0 }
  t[258] = { s, d, a, imm in
    let b = (s + Int(a)).assumingMemoryBound(to: UInt8.self); var r: UInt64 = 0
    if imm >> 8 == 0xD7 { for k in 0..<16 { r |= UInt64(b[k] >> 7) << UInt64(k) } } else if imm & 0xFF == 1 { for k in 0..<2 { r |= UInt64(b[k * 8 + 7] >> 7) << UInt64(k) } } else { for k in 0..<4 { r |= UInt64(b[k * 4 + 3] >> 7) << UInt64(k) } }
    (s + Int(d)).storeBytes(of: r, as: UInt64.self); return 0 }
  t[259] = { s, d, a, imm in
    let v: Int64 = imm & 1 != 0 ? (s + Int(a)).load(as: Int64.self) : Int64((s + Int(a)).load(as: Int32.self))
    if imm & 2 != 0 { (s + Int(d)).storeBytes(of: Float(v), as: Float.self) } else { (s + Int(d)).storeBytes(of: Double(v), as: Double.self) }; return 0 }
  t[260] = { s, d, a, imm in
    let v = imm & 2 != 0 ? Double((s + Int(a)).load(as: Float.self)) : (s + Int(a)).load(as: Double.self)
    if imm & 1 != 0 { let r: Int64 = v.isNaN || v >= 9.2e18 || v < -9.3e18 ? .min : Int64(v); (s + Int(d)).storeBytes(of: r, as: Int64.self) } else { let r: Int32 = v.isNaN || abs(v) >= 2147483648 ? .min : Int32(v); (s + Int(d)).storeBytes(of: UInt64(UInt32(bitPattern: r)), as: UInt64.self) }
    return 0 }
  t[261] = { s, d, a, imm in
    let st = s.assumingMemoryBound(to: X86State.self)
    let x = imm & 2 != 0 ? Double((s + Int(d)).load(as: Float.self)) : (s + Int(d)).load(as: Double.self)
    let y = imm & 2 != 0 ? Double((s + Int(a)).load(as: Float.self)) : (s + Int(a)).load(as: Double.self)
    var f: UInt32 = 0
    if x.isNaN || y.isNaN { f = 0x45 } else if x < y { f = 1 } else if x == y { f = 0x40 }
    st.pointee.eflags = st.pointee.eflags & ~Flags.all | f; return 0 }
  t[262] = { s, d, a, imm in
    shiftImm(s + Int(d), imm); return 0 }
  t[263] = { s, d, a, imm in simd(s + Int(d), s + Int(a), imm & 0xFF, (imm >> 8) & 0xFF, imm >> 16); return 0 }
} }
enum X87Helpers { static func install(into t: UnsafeMutablePointer<MicroHelper>) {
  t[Int(HelperID.fxsave.rawValue)] = { raw, _, a, _ in
    let st = raw.assumingMemoryBound(to: X86State.self); let ad = (raw + Int(a)).load(as: UInt64.self)
    guard GuestMemory.checkWritable(st, ad, length: 512) else { return 1 }
    _ = GuestMemory.store(st, ad, size: 8, 0x37F); _ = GuestMemory.store(st, ad &+ 24, size: 4, UInt64(st.pointee.fpu.mxcsr)); _ = GuestMemory.store(st, ad &+ 28, size: 4, 0xFFFF)
    for k in 0..<16 { _ = GuestMemory.store(st, ad &+ UInt64(160 + k * 16), size: 8, st.pointee.fpu.xmm[k].x); _ = GuestMemory.store(st, ad &+ UInt64(168 + k * 16), size: 8, st.pointee.fpu.xmm[k].y) }
    return 0 }
  t[Int(HelperID.fxrstor.rawValue)] = { raw, _, a, _ in
    let st = raw.assumingMemoryBound(to: X86State.self); let ad = (raw + Int(a)).load(as: UInt64.self)
    for k in 0..<16 { guard let x = GuestMemory.load(st, ad &+ UInt64(160 + k * 16), size: 8), let y = GuestMemory.load(st, ad &+ UInt64(168 + k * 16), size: 8) else { return 1 }; st.pointee.fpu.xmm[k] = SIMD2(x, y) }
    return 0 }
} }
func simd(_ d: UnsafeMutableRawPointer, _ a: UnsafeMutableRawPointer, _ op: UInt64, _ p: UInt64, _ imm: UInt64) {
  let d8 = d.assumingMemoryBound(to: UInt8.self), a8 = a.assumingMemoryBound(to: UInt8.self)
  let d16 = d.assumingMemoryBound(to: UInt16.self), a16 = a.assumingMemoryBound(to: UInt16.self)
  let d32 = d.assumingMemoryBound(to: UInt32.self), a32 = a.assumingMemoryBound(to: UInt32.self)
  let d64 = d.assumingMemoryBound(to: UInt64.self), a64 = a.assumingMemoryBound(to: UInt64.self)
  let df = d.assumingMemoryBound(to: Float.self), af = a.assumingMemoryBound(to: Float.self)
  let dd = d.assumingMemoryBound(to: Double.self), ad = a.assumingMemoryBound(to: Double.self)
  func all<T>(_ x: UnsafeMutablePointer<T>, _ y: UnsafeMutablePointer<T>, _ f: (T, T) -> T) { for k in 0..<(16 / MemoryLayout<T>.size) { x[k] = f(x[k], y[k]) } }
  func fp(_ f: (Float, Float) -> Float, _ g: (Double, Double) -> Double) { switch p { case 0: all(df, af, f); case 1: all(dd, ad, g); case 2: df[0] = f(df[0], af[0]); default: dd[0] = g(dd[0], ad[0]) } }
  func unpack<T>(_ x: UnsafeMutablePointer<T>, _ y: UnsafeMutablePointer<T>, _ high: Bool) { let n = 16 / MemoryLayout<T>.size; var r: [T] = []; let o = high ? n / 2 : 0; for k in 0..<n / 2 { r.append(x[o + k]); r.append(y[o + k]) }; for k in 0..<n { x[k] = r[k] } }
  switch op {
  case 0x54, 0xDB: d64[0] &= a64[0]; d64[1] &= a64[1]
  case 0x55, 0xDF: d64[0] = ~d64[0] & a64[0]; d64[1] = ~d64[1] & a64[1]
  case 0x56, 0xEB: d64[0] |= a64[0]; d64[1] |= a64[1]
  case 0x57, 0xEF: d64[0] ^= a64[0]; d64[1] ^= a64[1]
  case 0x58: fp(+, +)
  case 0x59: fp(*, *)
  case 0x5C: fp(-, -)
  case 0x5E: fp(/, /)
  case 0x51: fp({ $1.squareRoot() }, { $1.squareRoot() })
  case 0x5D: fp({ $0 < $1 ? $0 : $1 }, { $0 < $1 ? $0 : $1 })
  case 0x5F: fp({ $0 > $1 ? $0 : $1 }, { $0 > $1 ? $0 : $1 })
  case 0x5A: switch p { case 2: dd[0] = Double(af[0]); case 3: df[0] = Float(ad[0]); case 0: let x = (Double(af[0]), Double(af[1])); dd[0] = x.0; dd[1] = x.1; default: let x = (Float(ad[0]), Float(ad[1])); df[0] = x.0; df[1] = x.1; d64[1] = 0 }
  case 0x5B: if p == 0 { for k in 0..<4 { df[k] = Float(Int32(bitPattern: a32[k])) } } else { for k in 0..<4 { d32[k] = UInt32(bitPattern: Int32(af[k])) } }
  case 0xE6: if p == 2 { let x = (Double(Int32(bitPattern: a32[0])), Double(Int32(bitPattern: a32[1]))); dd[0] = x.0; dd[1] = x.1 }
  case 0x14: if p == 1 { unpack(d64, a64, false) } else { unpack(d32, a32, false) }
  case 0x15: if p == 1 { unpack(d64, a64, true) } else { unpack(d32, a32, true) }
  case 0x60: unpack(d8, a8, false)
  case 0x61: unpack(d16, a16, false)
  case 0x62: unpack(d32, a32, false)
  case 0x68: unpack(d8, a8, true)
  case 0x69: unpack(d16, a16, true)
  case 0x6A: unpack(d32, a32, true)
  case 0x6C: unpack(d64, a64, false)
  case 0x6D: unpack(d64, a64, true)
  case 0x63: var r: [UInt8] = []; for k in 0..<8 { r.append(UInt8(bitPattern: Int8(clamping: Int16(bitPattern: d16[k])))) }; for k in 0..<8 { r.append(UInt8(bitPattern: Int8(clamping: Int16(bitPattern: a16[k])))) }; for k in 0..<16 { d8[k] = r[k] }
  case 0x67: var r: [UInt8] = []; for k in 0..<8 { r.append(UInt8(clamping: Int16(bitPattern: d16[k]))) }; for k in 0..<8 { r.append(UInt8(clamping: Int16(bitPattern: a16[k]))) }; for k in 0..<16 { d8[k] = r[k] }
  case 0x64: all(d8, a8) { Int8(bitPattern: $0) > Int8(bitPattern: $1) ? 0xFF : 0 }
  case 0x65: all(d16, a16) { Int16(bitPattern: $0) > Int16(bitPattern: $1) ? 0xFFFF : 0 }
  case 0x66: all(d32, a32) { Int32(bitPattern: $0) > Int32(bitPattern: $1) ? .max : 0 }
  case 0x74: all(d8, a8) { $0 == $1 ? 0xFF : 0 }
  case 0x75: all(d16, a16) { $0 == $1 ? 0xFFFF : 0 }
  case 0x76: all(d32, a32) { $0 == $1 ? .max : 0 }
  case 0x70:
    switch p {
    case 1: let x = (0..<4).map { a32[Int(imm >> UInt64($0 * 2)) & 3] }; for k in 0..<4 { d32[k] = x[k] }
    case 3: let x = (0..<4).map { a16[Int(imm >> UInt64($0 * 2)) & 3] }; let h = a64[1]; for k in 0..<4 { d16[k] = x[k] }; d64[1] = h
    default: let x = (0..<4).map { a16[4 + Int(imm >> UInt64($0 * 2)) & 3] }; let l = a64[0]; for k in 0..<4 { d16[4 + k] = x[k] }; d64[0] = l
    }
  case 0xC6: if p == 1 { let x = (d64[Int(imm & 1)], a64[Int(imm >> 1 & 1)]); d64[0] = x.0; d64[1] = x.1 } else { let x = [d32[Int(imm & 3)], d32[Int(imm >> 2 & 3)], a32[Int(imm >> 4 & 3)], a32[Int(imm >> 6 & 3)]]; for k in 0..<4 { d32[k] = x[k] } }
  case 0xD4: all(d64, a64, &+)
  case 0xFC: all(d8, a8, &+)
  case 0xFD: all(d16, a16, &+)
  case 0xFE: all(d32, a32, &+)
  case 0xF8: all(d8, a8, &-)
  case 0xF9: all(d16, a16, &-)
  case 0xFA: all(d32, a32, &-)
  case 0xFB: all(d64, a64, &-)
  case 0xDA: all(d8, a8) { min($0, $1) }
  case 0xDE: all(d8, a8) { max($0, $1) }
  case 0xD8: all(d8, a8) { $0 > $1 ? $0 - $1 : 0 }
  case 0xD9: all(d16, a16) { $0 > $1 ? $0 - $1 : 0 }
  case 0xDC: all(d8, a8) { $0.addingReportingOverflow($1).overflow ? 255 : $0 &+ $1 }
  case 0xF4: d64[0] = UInt64(d32[0]) * UInt64(a32[0]); d64[1] = UInt64(d32[2]) * UInt64(a32[2])
  case 0xD5: all(d16, a16, &*)
  case 0xE4: all(d16, a16) { UInt16(UInt32($0) * UInt32($1) >> 16) }
  case 0xF2: let n = a64[0]; all(d32, a32) { x, _ in n > 31 ? 0 : x << UInt32(n) }
  case 0xF3: let n = a64[0]; all(d64, a64) { x, _ in n > 63 ? 0 : x << n }
  case 0xD2: let n = a64[0]; all(d32, a32) { x, _ in n > 31 ? 0 : x >> UInt32(n) }
  case 0xD3: let n = a64[0]; all(d64, a64) { x, _ in n > 63 ? 0 : x >> n }
  case 0xF6: for h in 0..<2 { var t: UInt64 = 0; for k in 0..<8 { t += UInt64(abs(Int(d8[h * 8 + k]) - Int(a8[h * 8 + k]))) }; d64[h] = t }
  default: fatalError("simd op \(String(op, radix: 16)) p \(p)")
  }
}

func sh<T: FixedWidthInteger & UnsignedInteger>(_ p: UnsafeMutableRawPointer, _: T.Type, _ sub: UInt64, _ c: UInt64) { let q = p.assumingMemoryBound(to: T.self); for k in 0..<(16 / MemoryLayout<T>.size) { if sub == 2 { q[k] = c >= T.bitWidth ? 0 : q[k] >> T(c) } else if sub == 6 { q[k] = c >= T.bitWidth ? 0 : q[k] << T(c) } else { let n = min(Int(c), T.bitWidth - 1); let neg = q[k] >> T(T.bitWidth - 1) != 0; let m: T = neg && n > 0 ? ~(T.max >> T(n)) : 0; q[k] = (q[k] >> T(n)) | m } } }
func shiftImm(_ p: UnsafeMutableRawPointer, _ imm: UInt64) {
    let op = imm & 0xFF, sub = (imm >> 8) & 7, c = imm >> 16
    if op == 0x73, sub == 3 || sub == 7 {
      let b = p.assumingMemoryBound(to: UInt8.self); var r = [UInt8](repeating: 0, count: 16); let n = Int(min(c, 16))
      for k in 0..<16 { let j = sub == 3 ? k + n : k - n; if j >= 0, j < 16 { r[k] = b[j] } }
      for k in 0..<16 { b[k] = r[k] }; return }
    switch op { case 0x71: sh(p, UInt16.self, sub, c); case 0x72: sh(p, UInt32.self, sub, c); default: sh(p, UInt64.self, sub, c) }
}
