#if SDL
    import CSDL
    import Devices
    import Foundation

    /// The screen in a window, by SDL 2. A click takes the mouse, Ctrl-Alt-G gives it back.
    final class SDLDisplay: Display {
        private let window: OpaquePointer
        private let input: HostInput
        private let quit: @Sendable () -> Void
        private var size = (width: 640, height: 480)
        private var hasMouse = false
        private var modifiers: Set<Int> = []
        private var last: Picture?

        init(input: HostInput, quit: @escaping @Sendable () -> Void) throws {
            self.input = input
            self.quit = quit
            guard SDL_InitSubSystem(SDL_INIT_VIDEO) == 0 else {
                throw UserError("--display sdl: \(String(cString: SDL_GetError()))")
            }
            let anywhere = Int32(bitPattern: UInt32(SDL_WINDOWPOS_UNDEFINED_MASK))
            guard let window = SDL_CreateWindow("emu", anywhere, anywhere, 640, 480, SDL_WINDOW_SHOWN.rawValue) else {
                throw UserError("--display sdl: no window: \(String(cString: SDL_GetError()))")
            }
            self.window = window
        }

        deinit {
            SDL_DestroyWindow(window)
            // Sound may go on.
            SDL_QuitSubSystem(SDL_INIT_VIDEO)
        }

        func show(_ picture: Picture, rows: Range<Int>) {
            if picture.width != size.width || picture.height != size.height {
                size = (picture.width, picture.height)
                SDL_SetWindowSize(window, Int32(picture.width), Int32(picture.height))
            }
            last = picture
            draw(picture, rows)
        }

        private func draw(_ picture: Picture, _ rows: Range<Int>) {
            guard let surface = SDL_GetWindowSurface(window), let target = surface.pointee.pixels,
                surface.pointee.format.pointee.BytesPerPixel == 4
            else { return }
            let height = min(rows.upperBound, Int(surface.pointee.h))
            let width = min(picture.width, Int(surface.pointee.w))
            guard rows.lowerBound < height else { return }
            let format = surface.pointee.format.pointee
            for y in rows.lowerBound..<height {
                let line = (target + y * Int(surface.pointee.pitch)).assumingMemoryBound(to: UInt32.self)
                for x in 0..<width {
                    let pixel = picture.pixels[y * picture.width + x]
                    line[x] = (pixel >> 16 & 0xFF) << UInt32(format.Rshift) | (pixel >> 8 & 0xFF) << UInt32(format.Gshift)
                        | (pixel & 0xFF) << UInt32(format.Bshift)
                }
            }
            SDL_UpdateWindowSurface(window)
        }

        func poll() {
            var event = SDL_Event()
            while SDL_PollEvent(&event) != 0 {
                switch SDL_EventType(event.type) {
                case SDL_QUIT: quit()
                case SDL_KEYDOWN, SDL_KEYUP:
                    let isDown = SDL_EventType(event.type) == SDL_KEYDOWN
                    // The host repeats keys that are held down, which the keyboard does not notice.
                    key(Int(event.key.keysym.scancode.rawValue), isDown)
                case SDL_MOUSEMOTION:
                    if input.hasTablet, let last {
                        input.movePointer(x: Int(event.motion.x), y: Int(event.motion.y), width: last.width, height: last.height)
                    } else if hasMouse { input.moveMouse(dx: Int(event.motion.xrel), dy: Int(event.motion.yrel)) }
                case SDL_MOUSEBUTTONDOWN: button(Int(event.button.button), true)
                case SDL_MOUSEBUTTONUP: button(Int(event.button.button), false)
                case SDL_MOUSEWHEEL: if hasMouse { input.moveMouse(dx: 0, dy: 0, dz: -Int(event.wheel.y)) }
                case SDL_WINDOWEVENT: if let last { draw(last, 0..<last.height) }
                default: break
                }
            }
        }

        private func key(_ usage: Int, _ isDown: Bool) {
            if (0xE0...0xE7).contains(usage) {
                if isDown { modifiers.insert(usage) } else { modifiers.remove(usage) }
            }
            let isEscape = usage == 0x0A && !modifiers.isDisjoint(with: [0xE0, 0xE4]) && !modifiers.isDisjoint(with: [0xE2, 0xE6])
            if isEscape { return setMouse(false) }
            if let key = HostKeys.key(usage: usage) { input.key(key, isRelease: !isDown) }
        }

        private func button(_ number: Int, _ isDown: Bool) {
            if !hasMouse {
                if isDown { setMouse(true) }
                return
            }
            // SDL: 1 left, 2 middle, 3 right.
            let bits: [UInt8] = [0, 1, 4, 2]
            if bits.indices.contains(number) { input.setButton(bits[number], isDown: isDown) }
        }

        private func setMouse(_ has: Bool) {
            hasMouse = has
            SDL_SetRelativeMouseMode(has ? SDL_TRUE : SDL_FALSE)
        }
    }
#endif
