import DeviceBus
import MachineState

/// What a built-in device does, behind what all devices do alike (`USBBuiltIn`).
package protocol USBFunction: AnyObject {
    var descriptors: USBDescriptors { get }
    /// A class or vendor request, or a standard one that only the function can answer (the descriptors of its class).
    func control(_ setup: USBSetup, _ data: [UInt8]) -> USBOutcome
    /// As in `USBDevice`.
    var dataOrigin: ImageOrigin? { get }
    /// A transfer of another endpoint than 0, of a device that has been configured.
    func carryOut(_ transfer: USBTransfer) -> USBOutcome
    /// The transfer that is under way at an endpoint (`waiting`, `later`) is not offered again.
    func cancel(endpoint: UInt8)
    /// The driver has chosen an alternate setting of an interface.
    func choose(_ interface: UInt8, alternate: UInt8)
    /// The port has been reset.
    func reset()
    /// The state that the guest can observe.
    func visit(_ visitor: inout StateVisitor)
    /// Says that a transfer may be offered again at an endpoint; set by the device.
    var wake: (UInt8) -> Void { get set }
}

extension USBFunction {
    package var dataOrigin: ImageOrigin? { nil }
    package func choose(_ interface: UInt8, alternate: UInt8) {}
}

/// A deterministic device that is part of the machine: it answers standard requests (USB 2.0, 9.4) itself.
package final class USBBuiltIn: USBDevice {
    package struct State {
        /// The configuration's number; 0: none yet.
        package var configuration: UInt8 = 0
        /// Endpoints that are halted: bits 0...15 those from the host, 16...31 those to the host.
        package var halted: UInt32 = 0
        /// Alternate settings that are chosen, by interface; at most 8.
        package var alternates = [UInt8](repeating: 0, count: 8)

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("configuration", &configuration)
            visitor.field("halted", &halted)
            visitor.field("alternates", &alternates)
            if visitor.mode == .load, alternates.count != 8 {
                visitor.fail("another number of interfaces")
                alternates = [UInt8](repeating: 0, count: 8)
            }
        }
    }
    private enum Request {
        static let getStatus: UInt8 = 0
        static let clearFeature: UInt8 = 1
        static let setFeature: UInt8 = 3
        static let setAddress: UInt8 = 5
        static let getDescriptor: UInt8 = 6
        static let getConfiguration: UInt8 = 8
        static let setConfiguration: UInt8 = 9
        static let getInterface: UInt8 = 10
        static let setInterface: UInt8 = 11
    }

    package private(set) var state = State()
    package let speed: USBSpeed
    package weak var port: (any USBPort)?
    package let function: any USBFunction
    private let descriptors: USBDescriptors

    package init(_ function: any USBFunction, speed: USBSpeed) {
        self.function = function
        self.speed = speed
        descriptors = function.descriptors.at(speed)
        function.wake = { [unowned(unsafe) self] endpoint in port?.wake(self, endpoint: endpoint) }
    }

    package var isAttached: Bool { true }
    package var dataOrigin: ImageOrigin? { function.dataOrigin }
    package func kind(of endpoint: UInt8) -> USBTransfer.Kind {
        for interface in descriptors.interfaces {
            if let found = interface.endpoints.first(where: { $0.address == endpoint }) { return found.kind }
        }
        return .bulk
    }
    package func cancel(endpoint: UInt8) { function.cancel(endpoint: endpoint) }

    package func reset() {
        state = State()
        function.reset()
    }

    package func visit(_ visitor: inout StateVisitor) {
        visitor.group("device") { state.visit(&$0) }
        visitor.group("function") { function.visit(&$0) }
    }

    private static func bit(_ endpoint: UInt8) -> UInt32 { 1 << UInt32(endpoint & 15 | (endpoint & 0x80) >> 3) }

    package func carryOut(_ transfer: USBTransfer) -> USBOutcome {
        if let setup = transfer.setup { return answer(setup, transfer.data) }
        let place = descriptors.interfaces.contains { interface in
            interface.alternate == state.alternates[Int(interface.number & 7)]
                && interface.endpoints.contains { $0.address == transfer.endpoint }
        }
        guard state.configuration != 0, place else { return .failed }
        if state.halted & Self.bit(transfer.endpoint) != 0 { return .stall }
        let outcome = function.carryOut(transfer)
        if outcome == .stall { state.halted |= Self.bit(transfer.endpoint) }
        return outcome
    }

    private func answer(_ setup: USBSetup, _ data: [UInt8]) -> USBOutcome {
        let outcome = setup.isStandard ? standard(setup) ?? function.control(setup, data) : function.control(setup, data)
        if case .done(let bytes) = outcome, setup.isIn { return .done(Array(bytes.prefix(Int(setup.length)))) }
        return outcome
    }

    /// Nil: the function may know.
    private func standard(_ setup: USBSetup) -> USBOutcome? {
        let endpoint = UInt8(truncatingIfNeeded: setup.index)
        switch (setup.type & 0x1F, setup.request) {
        case (0, Request.getDescriptor):
            switch setup.value >> 8 {
            case 1: return .done(descriptors.device)
            case 2: return setup.value & 0xFF == 0 ? .done(descriptors.configuration) : .stall
            case 3: return descriptors.string(Int(setup.value & 0xFF)).map { .done($0) } ?? .stall
            case 6: return speed == .high ? .done(descriptors.qualifier) : .stall
            default: return .stall
            }
        case (0, Request.setAddress): return .done([])
        case (0, Request.getConfiguration): return .done([state.configuration])
        case (0, Request.setConfiguration):
            guard setup.value < 2 else { return .stall }
            state = State()
            state.configuration = UInt8(setup.value)
            function.reset()
            return .done([])
        case (0, Request.getStatus): return .done([1, 0])
        case (1, Request.getStatus): return .done([0, 0])
        case (2, Request.getStatus): return .done([state.halted & Self.bit(endpoint) != 0 ? 1 : 0, 0])
        case (2, Request.clearFeature) where setup.value == 0:
            state.halted &= ~Self.bit(endpoint)
            return .done([])
        case (2, Request.setFeature) where setup.value == 0:
            state.halted |= Self.bit(endpoint)
            return .done([])
        case (1, Request.getInterface): return .done([state.alternates[Int(setup.index & 7)]])
        case (1, Request.setInterface):
            guard descriptors.interfaces.contains(where: { $0.number == setup.index & 0xFF && $0.alternate == setup.value & 0xFF })
            else { return .stall }
            state.alternates[Int(setup.index & 7)] = UInt8(truncatingIfNeeded: setup.value)
            function.choose(UInt8(truncatingIfNeeded: setup.index), alternate: UInt8(truncatingIfNeeded: setup.value))
            return .done([])
        default: return nil
        }
    }
}
