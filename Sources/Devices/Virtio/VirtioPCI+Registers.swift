import DeviceBus
import MachineState

/// The two interfaces to software: ports (legacy) and memory (modern).
extension VirtioPCI {
    // MARK: Legacy (4.1.4.8)

    /// Bytes before the device's configuration.
    private var portHeader: UInt64 { usesMessages ? 24 : 20 }

    func readPort(_ offset: UInt64) -> UInt8 {
        func byte(_ value: UInt64, _ base: UInt64) -> UInt8 { UInt8(truncatingIfNeeded: value >> ((offset - base) * 8)) }
        let queue = selectedQueue
        switch offset {
        case 0...3: return byte(offeredFeatures, 0)
        case 4...7: return byte(state.driverFeatures, 4)
        case 8...11: return byte(queue.map { $0.isEnabled ? $0.descriptors >> 12 : 0 } ?? 0, 8)
        case 12...13: return byte(selectedSize, 12)
        case 14...15: return byte(UInt64(state.queueSelect), 14)
        case 18: return state.status
        case 19: return takeInterruptStatus()
        case 20...21 where usesMessages: return byte(UInt64(state.configurationVector), 20)
        case 22...23 where usesMessages: return byte(UInt64(queue?.vector ?? MSIX.noVector), 22)
        default: return offset < portHeader ? 0 : readDevice(offset - portHeader)
        }
    }

    func writePort(_ offset: UInt64, _ width: Int, _ value: UInt64) {
        switch (offset, width) {
        case (4, 4): state.driverFeatures = value & 0xFFFF_FFFF & offeredFeatures
        case (8, 4):
            guard let index = selectedIndex else { return }
            state.queues[index].size = function.queueSizes[index]
            state.queues[index].placeAsLegacy(page: UInt32(truncatingIfNeeded: value))
            // Taking the page back is the legacy driver's way to stop a queue.
            if value == 0 { state.queues[index].nextAvailable = 0 }
            if value == 0 { state.queues[index].nextUsed = 0 }
        case (14, 2): state.queueSelect = UInt16(truncatingIfNeeded: value)
        case (16, 2): notify(queue: Int(value & 0xFFFF))
        case (18, 1): writeStatus(UInt8(truncatingIfNeeded: value))
        case (20, 2) where usesMessages: state.configurationVector = vector(value)
        case (22, 2) where usesMessages: if let index = selectedIndex { state.queues[index].vector = vector(value) }
        default:
            ByteLanes.write(offset, width, value) {
                if $0 >= portHeader { function.writeConfiguration(Int($0 - portHeader), $1) }
            }
        }
    }

    // MARK: Modern (4.1.4)

    /// A register of the common configuration.
    struct Field {
        let offset: UInt64
        let width: Int
        let name: String
    }
    /// In order of their offsets (4.1.4.3).
    static let commonFields: [Field] = [
        Field(offset: 0, width: 4, name: "DEVICE-FEATURE-SELECT"), Field(offset: 4, width: 4, name: "DEVICE-FEATURE"),
        Field(offset: 8, width: 4, name: "DRIVER-FEATURE-SELECT"), Field(offset: 12, width: 4, name: "DRIVER-FEATURE"),
        Field(offset: 16, width: 2, name: "CONFIG-VECTOR"), Field(offset: 18, width: 2, name: "QUEUES"),
        Field(offset: 20, width: 1, name: "STATUS"), Field(offset: 21, width: 1, name: "GENERATION"),
        Field(offset: 22, width: 2, name: "QUEUE-SELECT"), Field(offset: 24, width: 2, name: "QUEUE-SIZE"),
        Field(offset: 26, width: 2, name: "QUEUE-VECTOR"), Field(offset: 28, width: 2, name: "QUEUE-ENABLE"),
        Field(offset: 30, width: 2, name: "QUEUE-NOTIFY-OFFSET"), Field(offset: 32, width: 8, name: "QUEUE-DESC"),
        Field(offset: 40, width: 8, name: "QUEUE-DRIVER"), Field(offset: 48, width: 8, name: "QUEUE-DEVICE"),
    ]

    func readMemory(_ offset: UInt64, _ width: Int) -> UInt64 {
        switch Part(rawValue: offset / Self.partSize) {
        case .common:
            return ByteLanes.read(offset, width) { place in
                guard let field = Self.commonFields.last(where: { $0.offset <= place }) else { return 0 }
                let lane = place - field.offset
                return lane < UInt64(field.width) ? UInt8(truncatingIfNeeded: readField(field.offset) >> (lane * 8)) : 0
            }
        case .interrupt: return offset == Self.partSize ? UInt64(takeInterruptStatus()) : 0
        case .device:
            return ByteLanes.read(offset & (Self.partSize - 1), width) { readDevice($0) }
        case .notify, nil: return 0
        }
    }

    func writeMemory(_ offset: UInt64, _ width: Int, _ value: UInt64) {
        switch Part(rawValue: offset / Self.partSize) {
        case .common: writeCommon(offset, width, value)
        case .device:
            ByteLanes.write(offset & (Self.partSize - 1), width, value) { place, byte in
                function.writeConfiguration(Int(place), byte)
            }
        case .notify: notify(queue: Int((offset & (Self.partSize - 1)) / 4))
        case .interrupt, nil: break
        }
    }

    private func readField(_ offset: UInt64) -> UInt64 {
        let queue = selectedQueue
        switch offset {
        case 0: return UInt64(state.deviceFeatureSelect)
        case 4: return state.deviceFeatureSelect < 2 ? offeredFeatures >> (UInt64(state.deviceFeatureSelect) * 32) & 0xFFFF_FFFF : 0
        case 8: return UInt64(state.driverFeatureSelect)
        case 12: return state.driverFeatureSelect < 2 ? state.driverFeatures >> (UInt64(state.driverFeatureSelect) * 32) & 0xFFFF_FFFF : 0
        case 16: return UInt64(state.configurationVector)
        case 18: return UInt64(state.queues.count)
        case 20: return UInt64(state.status)
        case 21: return UInt64(state.configurationGeneration)
        case 22: return UInt64(state.queueSelect)
        case 24: return selectedSize
        case 26: return UInt64(queue?.vector ?? MSIX.noVector)
        case 28: return queue?.isEnabled == true ? 1 : 0
        case 30: return queue == nil ? 0 : UInt64(state.queueSelect)
        case 32: return queue?.descriptors ?? 0
        case 40: return queue?.available ?? 0
        case 48: return queue?.used ?? 0
        default: return 0
        }
    }

    /// Any width at any place: each register that is touched gets its old value with the new bytes in it.
    private func writeCommon(_ offset: UInt64, _ width: Int, _ value: UInt64) {
        for field in Self.commonFields where offset < field.offset + UInt64(field.width) && field.offset < offset + UInt64(width) {
            var merged = readField(field.offset)
            for lane in 0..<UInt64(width) {
                let place = offset + lane
                guard place >= field.offset, place < field.offset + UInt64(field.width) else { continue }
                let shift = (place - field.offset) * 8
                merged = merged & ~(0xFF << shift) | (value >> (lane * 8) & 0xFF) << shift
            }
            writeField(field.offset, merged)
        }
    }

    private func writeField(_ offset: UInt64, _ value: UInt64) {
        switch offset {
        case 0: state.deviceFeatureSelect = UInt32(truncatingIfNeeded: value)
        case 8: state.driverFeatureSelect = UInt32(truncatingIfNeeded: value)
        case 12:
            guard state.driverFeatureSelect < 2, state.status & Status.agreed == 0 else { return }
            let shift = UInt64(state.driverFeatureSelect) * 32
            state.driverFeatures = state.driverFeatures & ~(0xFFFF_FFFF << shift) | value << shift
        case 16: state.configurationVector = vector(value)
        case 20: writeStatus(UInt8(truncatingIfNeeded: value))
        case 22: state.queueSelect = UInt16(truncatingIfNeeded: value)
        default: writeQueue(offset, value)
        }
    }

    private func writeQueue(_ offset: UInt64, _ value: UInt64) {
        guard let index = selectedIndex else { return }
        if offset == 26 {
            state.queues[index].vector = vector(value)
            return
        }
        // The others are fixed while the queue is at work.
        if state.queues[index].isEnabled { return }
        switch offset {
        case 24:
            let size = UInt16(truncatingIfNeeded: value)
            if VirtioQueue.isValid(size: size), size <= function.queueSizes[index] { state.queues[index].size = size }
        case 28: if value & 1 != 0 { state.queues[index].isEnabled = true }
        case 32: state.queues[index].descriptors = value & ~15
        case 40: state.queues[index].available = value & ~1
        case 48: state.queues[index].used = value & ~3
        default: break
        }
    }

    // MARK: Both

    private var selectedIndex: Int? {
        state.queues.indices.contains(Int(state.queueSelect)) ? Int(state.queueSelect) : nil
    }
    private var selectedQueue: VirtioQueue? { selectedIndex.map { state.queues[$0] } }
    /// The queue's size, 0 for a queue that is not there.
    private var selectedSize: UInt64 { selectedQueue.map { UInt64($0.size) } ?? 0 }

    private func readDevice(_ offset: UInt64) -> UInt8 {
        let bytes = function.configurationBytes
        return offset < UInt64(bytes.count) ? bytes[Int(offset)] : 0
    }

    /// A vector that is not there reads back as none.
    private func vector(_ value: UInt64) -> UInt16 {
        value & 0xFFFF < UInt64(state.messages.count) ? UInt16(value & 0xFFFF) : MSIX.noVector
    }

    private func writeStatus(_ value: UInt8) {
        if value == 0 { return resetDevice() }
        var status = value & ~Status.needsReset | state.status & Status.needsReset
        // Features that were not offered are not agreed upon (3.1.1).
        if status & Status.agreed != 0, state.driverFeatures & ~offeredFeatures != 0 { status &= ~Status.agreed }
        state.status = status
    }

    /// The access that the capability's registers name: software that can reach no memory comes through here.
    func accessWindow(writes: Bool) {
        let base = Self.windowCapability
        guard configuration.read(base, width: 1) == 0x09 else { return }
        let bar = Int(configuration.read(base + 4, width: 1))
        let offset = UInt64(configuration.read(base + 8, width: 4))
        let width = configuration.read(base + 12, width: 4)
        guard bar < 6, let target = configuration.baseAddresses[bar], width == 1 || width == 2 || width == 4,
            offset % UInt64(width) == 0, offset + UInt64(width) <= UInt64(target.size)
        else { return }
        if writes {
            let value = configuration.read(base + 16, width: Int(width))
            write(region: target.region, offset: offset, width: Int(width), value: UInt64(value))
        } else {
            let value = read(region: target.region, offset: offset, width: Int(width))
            configuration.set(base + 16, width: 4, UInt32(truncatingIfNeeded: value))
        }
    }
}
