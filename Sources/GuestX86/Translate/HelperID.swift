/// Numbers of the shared helpers in the helper table. SIMD operations follow from 256, x87 operations from 768.
package enum HelperID: UInt16, CaseIterable, Sendable {
    case raiseInvalidOpcode, raiseGeneralProtection
    case segmentAddress, divide, divideSigned
    case string, stringCompare, stringIO
    case portIn, portOut
    case loadSegment, loadFarPointer, storeSegment
    case jumpFar, callFar, returnFar, interruptReturn, softwareInterrupt, into, bound
    case pushAll, popAll, enter
    case readFlags, writeFlags, loadAH, storeAH, clearInterrupt, setInterrupt
    case readControl, writeControl, readDebug, writeDebug, clearTaskSwitched, loadMachineStatus
    case loadDescriptorTable, storeDescriptorTable, loadLDT, loadTask, verify, loadAccessRights, adjustRPL
    case readMSR, writeMSR, readTimestamp, readPerformance, cpuid
    case syscall, sysret, sysenter, sysexit, swapGS, invalidatePage, halt, monitor, privileged
    case decimalAdjust, compareExchange8, compareExchange16, waitX87, xlat, ascii
    case fxsave, fxrstor, checkTarget

    package static let simdBase: UInt16 = 256
    package static let x87Base: UInt16 = 768
    package static let count = 1024
}
