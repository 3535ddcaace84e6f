#if VNC
    import CVNC
    import Devices
    import Foundation
    import Synchronization

    /// The screen for VNC clients, by libvncserver. Its keys and its mouse are the guest's.
    final class VNCDisplay: Display {
        /// What the library's thread knows: the way to the guest, and where the pointer was.
        private final class Client: Sendable {
            let input: HostInput
            private let pointer = Mutex<(x: Int32, y: Int32, buttons: Int32)>((0, 0, 0))
            /// The picture's size.
            let screen = Mutex<(width: Int, height: Int)>((640, 480))
            init(_ input: HostInput) { self.input = input }

            func key(_ symbol: UInt32, isDown: Bool) {
                if let key = HostKeys.key(symbol: symbol) { input.key(key, isRelease: !isDown) }
            }

            /// The pointer's place becomes a motion, unless the guest has a tablet.
            func pointer(_ x: Int32, _ y: Int32, _ buttons: Int32) {
                let old = pointer.withLock { pointer in
                    defer { pointer = (x, y, buttons) }
                    return pointer
                }
                if buttons & 7 != old.buttons & 7 {
                    // Left, middle, right; the message's order is left, right, middle.
                    input.setButtons(UInt8(buttons & 1 | (buttons & 2) << 1 | (buttons & 4) >> 1))
                }
                let wheel = (buttons & ~old.buttons & 16 != 0 ? 1 : 0) - (buttons & ~old.buttons & 8 != 0 ? 1 : 0)
                if input.hasTablet {
                    let size = screen.withLock { $0 }
                    input.movePointer(x: Int(x), y: Int(y), width: size.width, height: size.height, dz: wheel)
                } else if x != old.x || y != old.y || wheel != 0 {
                    input.moveMouse(dx: Int(x - old.x), dy: Int(y - old.y), dz: wheel)
                }
            }
        }

        private let screen: UnsafeMutablePointer<rfbScreenInfo>
        private let pixels: UnsafeMutablePointer<UInt32>
        private let client: Client
        private var size = (width: 640, height: 480)
        /// The largest picture: the buffer stays where it is when the size changes.
        private static let most = (width: 2560, height: 1600)

        init(host: String, number: UInt16, password: String?, input: HostInput) throws {
            client = Client(input)
            let count = Self.most.width * Self.most.height
            pixels = UnsafeMutablePointer<UInt32>.allocate(capacity: count)
            pixels.initialize(repeating: 0, count: count)
            rfbLogEnable(0)
            guard let screen = rfbGetScreen(nil, nil, 640, 480, 8, 3, 4) else {
                throw UserError("--display vnc: the server cannot be made")
            }
            self.screen = screen
            screen.pointee.frameBuffer = UnsafeMutableRawPointer(pixels).assumingMemoryBound(to: CChar.self)
            screen.pointee.desktopName = UnsafePointer(strdup("emu"))
            screen.pointee.alwaysShared = 1
            screen.pointee.port = Int32(5900 + UInt32(number))
            screen.pointee.ipv6port = 0
            var address = in_addr()
            guard inet_pton(AF_INET, host.isEmpty ? "127.0.0.1" : host, &address) == 1 else {
                throw UserError("--display vnc=\(host):\(number): \(host) is not an IPv4 address")
            }
            screen.pointee.listenInterface = address.s_addr
            screen.pointee.screenData = Unmanaged.passUnretained(client).toOpaque()
            screen.pointee.kbdAddEvent = { down, symbol, peer in
                guard let data = peer?.pointee.screen.pointee.screenData else { return }
                Unmanaged<Client>.fromOpaque(data).takeUnretainedValue().key(symbol, isDown: down != 0)
            }
            screen.pointee.ptrAddEvent = { buttons, x, y, peer in
                guard let data = peer?.pointee.screen.pointee.screenData else { return }
                Unmanaged<Client>.fromOpaque(data).takeUnretainedValue().pointer(x, y, buttons)
                rfbDefaultPtrAddEvent(buttons, x, y, peer)
            }
            if let password {
                // A list of passwords that ends with nil; the library keeps the pointer.
                let list = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: 2)
                list[0] = strdup(password)
                list[1] = nil
                screen.pointee.authPasswdData = UnsafeMutableRawPointer(list)
                screen.pointee.passwordCheck = rfbCheckPasswordByList
            }
            rfbInitServerWithPthreadsAndZRLE(screen)
            guard screen.pointee.listenSock >= 0 else {
                throw UserError("--display vnc=\(host):\(number): port \(5900 + UInt32(number)) cannot be listened at")
            }
            rfbRunEventLoop(screen, -1, 1)
        }

        func poll() {}

        func show(_ picture: Picture, rows: Range<Int>) {
            guard picture.width <= Self.most.width, picture.height <= Self.most.height else { return }
            let isNew = picture.width != size.width || picture.height != size.height
            for index in rows.lowerBound * picture.width..<rows.upperBound * picture.width {
                let pixel = picture.pixels[index]
                // Red is in the lowest byte here.
                pixels[index] = pixel & 0xFF00 | pixel >> 16 & 0xFF | (pixel & 0xFF) << 16
            }
            if isNew {
                size = (picture.width, picture.height)
                client.screen.withLock { $0 = (picture.width, picture.height) }
                rfbNewFramebuffer(screen, screen.pointee.frameBuffer, Int32(picture.width), Int32(picture.height), 8, 3, 4)
            }
            rfbMarkRectAsModified(screen, 0, Int32(rows.lowerBound), Int32(picture.width), Int32(rows.upperBound))
        }
    }
#endif
