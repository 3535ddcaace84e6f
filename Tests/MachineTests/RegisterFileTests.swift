import DeviceBus
import Testing
import Trace

/// Register descriptions as others write them, whole and damaged.
@Suite struct RegisterFileTests {
    private static let svd = """
        <?xml version="1.0" encoding="utf-8"?>
        <!-- A timer & a port. -->
        <device schemaVersion="1.3">
          <name>CHIP</name><size>32</size>
          <peripherals>
            <peripheral>
              <name>TIMER0</name><baseAddress>0x40000000</baseAddress>
              <registers>
                <register>
                  <name>CR</name><description>Control &lt;of&gt; all</description><addressOffset>0x00</addressOffset>
                  <fields>
                    <field><name>EN</name><bitOffset>0</bitOffset><bitWidth>1</bitWidth></field>
                    <field><name>MODE</name><bitRange>[3:2]</bitRange>
                      <enumeratedValues>
                        <enumeratedValue><name>once</name><value>0</value></enumeratedValue>
                        <enumeratedValue><name>periodic</name><value>#10</value></enumeratedValue>
                      </enumeratedValues>
                    </field>
                    <field><name>DIV</name><lsb>8</lsb><msb>15</msb></field>
                  </fields>
                </register>
                <register derivedFrom="CR"><name>CR2</name><addressOffset>0x4</addressOffset></register>
                <register><dim>3</dim><dimIncrement>0x10</dimIncrement><dimIndex>A,B,C</dimIndex>
                  <name>CC%s</name><addressOffset>0x20</addressOffset><size>16</size></register>
                <cluster><dim>2</dim><dimIncrement>8</dimIncrement><name>CH[%s]</name><addressOffset>0x80</addressOffset>
                  <register><name>COUNT</name><addressOffset>4</addressOffset></register></cluster>
              </registers>
            </peripheral>
            <peripheral derivedFrom="TIMER0"><name>TIMER1</name><baseAddress>0x40001000</baseAddress></peripheral>
          </peripherals>
        </device>
        """
    private static let rnn = """
        <?xml version="1.0"?>
        <!DOCTYPE database [ <!ELEMENT database ANY> ]>
        <database xmlns="http://nouveau.freedesktop.org/">
          <enum name="power"><value value="0" name="OFF"/><value name="ON"/></enum>
          <bitset name="status"><bitfield pos="0" name="BUSY"/><bitfield low="4" high="7" name="UNIT"/></bitset>
          <group name="ring"><reg32 offset="0x0" name="HEAD"/><reg32 offset="0x4" name="TAIL"/></group>
          <domain name="MMIO" size="0x1000">
            <reg32 offset="0x10" name="STATUS" type="status"/>
            <reg32 offset="0x14" name="POWER"><bitfield low="0" high="1" name="STATE" type="power"/></reg32>
            <reg8 offset="0x20" name="LUT" length="4"/>
            <array offset="0x100" name="RING" length="2" stride="0x40"><use-group name="ring"/></array>
            <stripe offset="0x200" length="2" stride="0x8"><reg64 offset="0" name="FENCE"/></stripe>
          </domain>
        </database>
        """

    private func registers(_ text: String, _ part: String? = nil) throws -> [RegisterName] {
        try RegisterFile(Array(text.utf8)).part(part).registers
    }

    @Test func readsSVD() throws {
        let timer = try registers(Self.svd, "TIMER0")
        #expect(timer.map { "\($0.offset) \($0.name) \($0.length)" } == [
            "0 CR 4", "4 CR2 4", "32 CCA 2", "48 CCB 2", "64 CCC 2", "132 CH[0].COUNT 4", "140 CH[1].COUNT 4",
        ])
        #expect(timer[0].describe(0x1209, isWrite: true) == "EN MODE=periodic DIV=18")
        #expect(timer[1].describe(0x1, isWrite: false) == "EN MODE=once")
        #expect(try registers(Self.svd, "TIMER1") == timer)
        #expect(throws: RegisterFileError.self) { try registers(Self.svd) }
        #expect(throws: RegisterFileError.self) { try registers(Self.svd, "TIMER2") }
    }

    @Test func readsRNN() throws {
        let chip = try registers(Self.rnn)
        #expect(chip.map { "\($0.offset) \($0.name) \($0.length)" } == [
            "16 STATUS 4", "20 POWER 4", "32 LUT[0] 1", "33 LUT[1] 1", "34 LUT[2] 1", "35 LUT[3] 1", "256 RING[0].HEAD 4",
            "260 RING[0].TAIL 4", "320 RING[1].HEAD 4", "324 RING[1].TAIL 4", "512 FENCE 8", "520 FENCE 8",
        ])
        #expect(chip[0].describe(0x31, isWrite: false) == "BUSY UNIT=3")
        #expect(chip[1].describe(1, isWrite: true) == "STATE=ON")
    }

    /// Cut short anywhere, or with any byte changed, a file is an error or has other registers.
    @Test(arguments: [Self.svd, Self.rnn]) func damagedFiles(text: String) throws {
        let bytes = Array(text.utf8)
        let last = try #require(bytes.lastIndex(of: UInt8(ascii: ">")))
        for end in stride(from: 0, to: last, by: 7) {
            #expect(throws: RegisterFileError.self) { try RegisterFile(Array(bytes[..<end])) }
        }
        for position in stride(from: 0, to: bytes.count, by: 3) {
            for byte in [0, UInt8(ascii: "<"), UInt8(ascii: "&"), UInt8(ascii: "9"), 0xFF] {
                var damaged = bytes
                damaged[position] = byte
                do { _ = try RegisterFile(damaged) } catch is RegisterFileError {}
            }
        }
    }

    /// Numbers and shapes that are meant to take time or memory.
    @Test func hostileFiles() throws {
        let deep = String(repeating: "<a>", count: 100_000)
        #expect(throws: RegisterFileError.self) { try RegisterFile(Array(deep.utf8)) }
        func register(_ body: String) -> String {
            "<device><peripherals><peripheral><name>P</name><registers>\(body)</registers></peripheral></peripherals></device>"
        }
        let many = try registers(register(
            "<register><dim>4294967295</dim><dimIncrement>0xFFFFFFFFFFFFFFFF</dimIncrement><name>R%s</name><addressOffset>0</addressOffset></register>"))
        #expect(many.count <= 65536)
        let nested = "<cluster><dim>65536</dim><dimIncrement>1</dimIncrement><name>a%s</name>"
        let inner = "<register><name>r</name><addressOffset>0</addressOffset></register></cluster>"
        #expect(try registers(register(nested + nested + inner + "</cluster>")).count <= 65536)
        for field in [
            "<bitRange>[200:3]</bitRange>", "<bitRange>[1:2:3]</bitRange>", "<bitRange>x</bitRange>", "<lsb>9</lsb><msb>3</msb>",
            "<bitOffset>63</bitOffset><bitWidth>2</bitWidth>", "<bitOffset>18446744073709551615</bitOffset>",
            "<bitOffset>1</bitOffset><bitWidth>0</bitWidth>", "",
        ] {
            let found = try registers(register(
                "<register><name>R</name><addressOffset>0</addressOffset><fields><field><name>F</name>\(field)</field></fields></register>"))
            #expect(found.count == 1 && found[0].fields.isEmpty, "\(field)")
        }
        for register in ["<register><name>R</name><size>0</size></register>", "<register><name>R</name><size>4096</size></register>", "<register/>"] {
            let text = "<device><peripherals><peripheral><name>P</name><registers>\(register)</registers></peripheral></peripherals></device>"
            #expect(throws: RegisterFileError.self) { try registers(text) }
        }
        let group = "<group name=\"g\"><use-group name=\"g\"/><reg32 offset=\"0\" name=\"R\"/></group>"
        let loop = "<database>\(group)<domain name=\"D\"><use-group name=\"g\"/></domain></database>"
        #expect(try registers(loop).count < 100)
        for text in ["<device/>", "<html></html>", "", "{}", "<device><peripherals><peripheral/></peripherals></device>", "<a>&unknown;</a>", "<a>&#xD800;</a>", "<a b=c/>", "<a></b>"] {
            #expect(throws: RegisterFileError.self) { try RegisterFile(Array(text.utf8)) }
        }
    }
}
