import ArgumentParser
import Boundary
import Devices
import Foundation
import Passthrough

/// What shows the guest's screen on the host. Everything happens on the machine's thread.
protocol Display: AnyObject {
    /// Shows a picture; `rows` have changed since the last one of this size, all of them in one of a new size.
    func show(_ picture: Picture, rows: Range<Int>)
    /// Called with each frame, for what comes from the host by polling.
    func poll()
}

/// `--display`.
enum DisplayOption: ExpressibleByArgument, Equatable {
    case none
    /// An IPv4 address (empty for 127.0.0.1), the display's number, and perhaps a password.
    case vnc(host: String, number: UInt16, password: String?)
    case sdl

    init?(argument: String) {
        if argument == "none" {
            self = .none
        } else if argument == "sdl" {
            self = .sdl
        } else if argument.hasPrefix("vnc=") {
            let parts = argument.dropFirst(4).split(separator: ",", maxSplits: 1, omittingEmptySubsequences: false)
            let place = parts[0].split(separator: ":", omittingEmptySubsequences: false)
            guard place.count == 2, let number = UInt16(place[1]), number <= 59_000 else { return nil }
            self = .vnc(host: String(place[0]), number: number, password: parts.count > 1 ? String(parts[1]) : nil)
        } else {
            return nil
        }
    }

    var defaultValueDescription: String { "none" }

    /// Opens it; nil for none.
    func open(_ input: HostInput, quit: @escaping @Sendable () -> Void) throws -> (any Display)? {
        switch self {
        case .none: return nil
        case .vnc(let host, let number, let password):
            #if VNC
                return try VNCDisplay(host: host, number: number, password: password, input: input)
            #else
                _ = (host, number, password)
                throw UserError("--display vnc: this program was built without it; build it with --traits VNC")
            #endif
        case .sdl:
            #if SDL
                return try SDLDisplay(input: input, quit: quit)
            #else
                throw UserError("--display sdl: this program was built without it; build it with --traits SDL")
            #endif
        }
    }
}

/// Looks at the screen 25 times a second and shows what has changed.
final class DisplayRefresher: @unchecked Sendable {
    private let display: any Display
    private let vga: VGA
    private var last = Picture(width: 0, height: 0)
    private var lastTime = ContinuousClock.now
    private static let interval = Duration.milliseconds(40)

    /// - Parameter live: is asked for the machine's thread in time.
    init(_ display: any Display, vga: VGA, live: LiveBoundary) {
        self.display = display
        self.vga = vga
        live.onWait { [unowned self] in refreshIfDue() }
        BackgroundThread.start {
            while true {
                usleep(40_000)
                live.requestLook()
            }
        }
    }

    func refreshIfDue() {
        let now = ContinuousClock.now
        if now - lastTime < Self.interval { return }
        lastTime = now
        refresh()
    }

    func refresh() {
        display.poll()
        let picture = vga.picture()
        guard picture.width > 0, picture.height > 0 else { return }
        if picture.width != last.width || picture.height != last.height {
            display.show(picture, rows: 0..<picture.height)
        } else if let rows = Self.difference(last, picture) {
            display.show(picture, rows: rows)
        }
        last = picture
    }

    /// From the first to the last row that differs; nil when none does.
    private static func difference(_ old: Picture, _ new: Picture) -> Range<Int>? {
        old.pixels.withUnsafeBytes { old in
            new.pixels.withUnsafeBytes { fresh in
                let row = new.width * 4
                func isSame(_ y: Int) -> Bool { memcmp(old.baseAddress! + y * row, fresh.baseAddress! + y * row, row) == 0 }
                guard let first = (0..<new.height).first(where: { !isSame($0) }),
                    let last = (first..<new.height).last(where: { !isSame($0) })
                else { return nil }
                return first..<last + 1
            }
        }
    }
}
