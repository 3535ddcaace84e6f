import DeviceBus
import MachineState

extension XHCI {
    /// Everything the guest can observe, beside the devices at the ports.
    package struct State {
        package var configuration = XHCI.makeConfiguration()
        package var command: UInt32 = 0
        /// Bits that stay until they are cleared: host error, event interrupt, port change.
        package var status: UInt32 = 0
        package var notification: UInt32 = 0
        package var commandRing: UInt64 = 0
        package var commandCycle = false
        package var isCommandRingRunning = false
        package var contexts: UInt64 = 0
        package var configure: UInt32 = 0
        package var ports: [Port]
        package var interrupter = Interrupter()
        /// Slot n is the element n - 1.
        package var slots: [Slot]

        package init(ports: Int, slots: Int) {
            self.ports = [Port](repeating: Port(), count: ports)
            self.slots = (0..<slots).map { _ in Slot() }
        }

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.group("configuration") { configuration.visit(&$0) }
            visitor.field("command", &command)
            visitor.field("status", &status)
            visitor.field("notification", &notification)
            visitor.field("commandRing", &commandRing)
            visitor.field("commandCycle", &commandCycle)
            visitor.field("isCommandRingRunning", &isCommandRingRunning)
            visitor.field("contexts", &contexts)
            visitor.field("configure", &configure)
            let counts = (ports.count, slots.count)
            visitor.list("ports", &ports, make: { Port() }) { $0.visit(&$1) }
            visitor.group("interrupter") { interrupter.visit(&$0) }
            visitor.list("slots", &slots, make: { Slot() }) { $0.visit(&$1) }
            if visitor.mode == .load, ports.count != counts.0 || slots.count != counts.1 {
                visitor.fail("another number of ports or slots")
                self = State(ports: counts.0, slots: counts.1)
            }
        }
    }

    /// A root hub port.
    package struct Port {
        /// PORTSC (5.4.8).
        package var status: UInt32 = PortBit.power | 5 << 5
        package var power: UInt32 = 0

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("status", &status)
            visitor.field("power", &power)
        }
    }

    enum PortBit {
        static let connected: UInt32 = 1
        static let enabled: UInt32 = 1 << 1
        static let reset: UInt32 = 1 << 4
        static let linkMask: UInt32 = 15 << 5
        static let power: UInt32 = 1 << 9
        static let speedMask: UInt32 = 15 << 10
        static let linkWrite: UInt32 = 1 << 16
        static let connectChange: UInt32 = 1 << 17
        static let resetChange: UInt32 = 1 << 21
        static let linkChange: UInt32 = 1 << 22
        static let changes: UInt32 = 0x7F << 17
        static let wake: UInt32 = 7 << 25
        static let warmReset: UInt32 = 1 << 31
    }

    /// The one interrupter and its event ring (4.9.4, 5.5.2).
    package struct Interrupter {
        package var management: UInt32 = 0
        package var moderation: UInt32 = 4000
        package var segmentCount: UInt32 = 0
        package var segmentTable: UInt64 = 0
        package var dequeue: UInt64 = 0
        /// The segment in use: its address, its size in events, where the next event goes, and its cycle bit.
        package var base: UInt64 = 0
        package var size: UInt32 = 0
        package var next: UInt32 = 0
        package var cycle = true
        /// Events that wait for room: three words each, parameter, and status and control in one.
        package var waiting: [UInt64] = []

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("management", &management)
            visitor.field("moderation", &moderation)
            visitor.field("segmentCount", &segmentCount)
            visitor.field("segmentTable", &segmentTable)
            visitor.field("dequeue", &dequeue)
            visitor.field("base", &base)
            visitor.field("size", &size)
            visitor.field("next", &next)
            visitor.field("cycle", &cycle)
            visitor.field("waiting", &waiting)
            if visitor.mode == .load, waiting.count & 1 != 0 {
                visitor.fail("half an event")
                waiting = []
            }
        }
    }

    package struct Slot {
        package var isEnabled = false
        /// 0 enabled, 1 default, 2 addressed, 3 configured (6.2.2).
        package var state: UInt8 = 0
        /// The root hub port, from 1 on; 0: none.
        package var port: UInt8 = 0
        /// The output device context.
        package var context: UInt64 = 0
        /// Endpoints that are to be looked at, by device context index (1...31).
        package var ready: UInt32 = 0
        /// Element n is the endpoint with device context index n; 0 is not used.
        package var endpoints = [Endpoint](repeating: Endpoint(), count: 32)

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("isEnabled", &isEnabled)
            visitor.field("state", &state)
            visitor.field("port", &port)
            visitor.field("context", &context)
            visitor.field("ready", &ready)
            visitor.list("endpoints", &endpoints, make: { Endpoint() }) { $0.visit(&$1) }
            if visitor.mode == .load, endpoints.count != 32 {
                visitor.fail("a slot of \(endpoints.count) endpoints")
                self = Slot()
            }
        }
    }

    package struct Endpoint {
        /// 0 disabled, 1 running, 2 halted, 3 stopped, 4 error (6.2.3).
        package var state: UInt8 = 0
        /// 1 isochronous out, 2 bulk out, 3 interrupt out, 4 control, 5 isochronous in, 6 bulk in, 7 interrupt in.
        package var type: UInt8 = 0
        /// 125 µs << interval.
        package var interval: UInt8 = 0
        package var dequeue: UInt64 = 0
        package var cycle = false
        /// A transfer has been offered to the device and is not over.
        package var isUnderWay = false
        /// Not before this time.
        package var due: VirtualTime = 0

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("state", &state)
            visitor.field("type", &type)
            visitor.field("interval", &interval)
            visitor.field("dequeue", &dequeue)
            visitor.field("cycle", &cycle)
            visitor.field("isUnderWay", &isUnderWay)
            visitor.field("due", &due)
        }
    }

    /// A transfer request block (4.11), or an event.
    struct Block {
        var address: UInt64
        var parameter: UInt64
        var status: UInt32
        var control: UInt32

        var type: UInt32 { control >> 10 & 63 }
        var length: Int { Int(status & 0x1_FFFF) }
        var cycle: Bool { control & 1 != 0 }
        var isChained: Bool { control & 1 << 4 != 0 }
        var interruptsOnShort: Bool { control & 1 << 2 != 0 }
        var interrupts: Bool { control & 1 << 5 != 0 }
        var isImmediate: Bool { control & 1 << 6 != 0 }
        /// Its event waits for another one's interrupt.
        var blocksInterrupt: Bool { control & 1 << 9 != 0 && (type == BlockType.normal || type == BlockType.isochronous || type == BlockType.eventData) }
        /// Of an isochronous block: the frame in which it is to be done, 0 to 2047; nil: the next one.
        var frame: UInt64? { type == BlockType.isochronous && control & 1 << 31 == 0 ? UInt64(control >> 20 & 0x7FF) : nil }
    }

    enum BlockType {
        static let normal: UInt32 = 1
        static let setup: UInt32 = 2
        static let data: UInt32 = 3
        static let status: UInt32 = 4
        static let isochronous: UInt32 = 5
        static let link: UInt32 = 6
        static let eventData: UInt32 = 7
        static let noOperation: UInt32 = 8
        static let transferEvent: UInt32 = 32
        static let commandEvent: UInt32 = 33
        static let portEvent: UInt32 = 34
    }

    /// Completion codes (6.4.5).
    enum Code: UInt32 {
        case success = 1
        case babble = 3
        case transaction = 4
        case block = 5
        case stall = 6
        case noSlots = 9
        case slotNotEnabled = 11
        case shortPacket = 13
        case parameter = 17
        case contextState = 19
        case stopped = 26
        case ringStopped = 24
    }
}
