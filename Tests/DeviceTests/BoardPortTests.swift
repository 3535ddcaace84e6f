import DeviceBus
import Devices
import Testing

struct BoardPortTests {
    let board = FakeBoard()

    @Test func systemPorts() {
        _ = board.add(SystemPorts(pins: board, channel: board))
        board.out(0x92, 0)
        #expect(!board.a20)
        board.out(0x92, 2)
        #expect(board.a20 && board.in(0x92) == 2)
        board.out(0x92, 3)
        #expect(board.resets == 1)
        #expect(board.in(0x402) == 0xE9 && board.in(0xE9) == 0xE9)
        board.out(0xE9, 0x41)
        board.out(0x402, 0x42)
        #expect(board.sent == [0x41, 0x42])
        board.out(0xF4, 0x1234_5631, 4)
        board.out(0xF4, 0x31)
        #expect(board.powerOffCodes == [0x1234_5631, 0x31])
        board.out(0x80, 0xAB)
        #expect(board.in(0x80) == 0xAB)
    }

    @Test func dmaRegistersKeepTheirBytes() {
        _ = board.add(DMA8237(memory: board))
        board.out(0x0C, 0)
        board.out(0x04, 0x34)
        board.out(0x04, 0x12)
        #expect(board.in(0x04) == 0x34)
        #expect(board.in(0x04) == 0x12)
        board.out(0xD8, 0)
        board.out(0xC6, 0x78)
        board.out(0xC6, 0x56)
        #expect(board.in(0xC6) == 0x78)
        #expect(board.in(0x0F) == 0xFF)
        board.out(0x0A, 2)
        #expect(board.in(0x0F) == 0xFB)
        board.out(0x83, 0x5A)
        #expect(board.in(0x83) == 0x5A)
        board.out(0x0D, 0)
        #expect(board.in(0x0F) == 0xFF)
    }

    @Test func fwCfgItemsAndDirectory() {
        let chip = board.add(FwCfg(memory: board))
        chip.add(file: "etc/zebra", data: [1, 2, 3])
        chip.add(file: "etc/ape", data: [9])
        func item(_ key: UInt64, _ count: Int) -> [UInt8] {
            board.out(0x510, key, 2)
            return (0..<count).map { _ in UInt8(board.in(0x511)) }
        }
        #expect(item(0, 4) == Array("QEMU".utf8))
        #expect(item(1, 4) == [3, 0, 0, 0])
        let directory = item(0x19, 4 + 64 * 2)
        #expect(Array(directory[0..<4]) == [0, 0, 0, 2])
        #expect(Array(directory[4..<12]) == [0, 0, 0, 1, 0, 0x21, 0, 0])
        #expect(String(decoding: directory[12..<19], as: UTF8.self) == "etc/ape")
        #expect(item(0x20, 5) == [1, 2, 3, 0, 0])
        #expect(item(0x7777, 2) == [0, 0])
    }

    @Test func fwCfgByDMA() {
        let chip = board.add(FwCfg(memory: board))
        chip.add(file: "opt/data", data: Array(0..<100))
        func request(_ control: UInt32, _ length: UInt32, _ address: UInt64) -> UInt32 {
            func store(_ place: Int, _ value: UInt64, _ count: Int) {
                for lane in 0..<count {
                    board.ram[place + lane] = UInt8(value >> UInt64((count - 1 - lane) * 8) & 0xFF)
                }
            }
            store(0x1000, UInt64(control), 4)
            store(0x1004, UInt64(length), 4)
            store(0x1008, address, 8)
            board.out(0x514, 0, 4)
            board.out(0x518, UInt64(UInt32(0x1000).byteSwapped), 4)
            return board.ram[0x1000..<0x1004].reduce(0) { $0 << 8 | UInt32($1) }
        }
        #expect(UInt32(board.in(0x514, 4)) == UInt32(0x5145_4D55).byteSwapped)
        #expect(request(0x20 << 16 | 8 | 2, 10, 0x2000) == 0)
        #expect(Array(board.ram[0x2000..<0x200A]) == Array(0..<10))
        #expect(request(4, 80, 0) == 0)
        board.ram.replaceSubrange(0x2000..<0x2020, with: [UInt8](repeating: 7, count: 0x20))
        #expect(request(2, 0x1F, 0x2000) == 0)
        #expect(Array(board.ram[0x2000..<0x200A]) == Array(90..<100))
        #expect(board.ram[0x201E] == 0 && board.ram[0x201F] == 7)
        #expect(request(16, 1, 0x2000) == 1, "items are read only")
        #expect(request(2, .max, 0xFFFF_FFFF_FFFF_FFF0) == 0)
    }
}
