import Foundation
import Replay

/// The few functions of libsqlite3 that an export needs. The library is looked for when it is wanted: nothing else of the
/// program needs it.
final class SQLite {
    private typealias Open = @convention(c) (UnsafePointer<CChar>, UnsafeMutablePointer<OpaquePointer?>) -> Int32
    private typealias Execute = @convention(c) (
        OpaquePointer?, UnsafePointer<CChar>, UnsafeRawPointer?, UnsafeRawPointer?, UnsafeRawPointer?
    ) -> Int32
    private typealias Prepare = @convention(c) (
        OpaquePointer?, UnsafePointer<CChar>, Int32, UnsafeMutablePointer<OpaquePointer?>, UnsafeRawPointer?
    ) -> Int32
    private typealias BindNumber = @convention(c) (OpaquePointer?, Int32, Int64) -> Int32
    private typealias BindBytes = @convention(c) (OpaquePointer?, Int32, UnsafeRawPointer?, Int32, Int) -> Int32
    private typealias BindNull = @convention(c) (OpaquePointer?, Int32) -> Int32
    private typealias Plain = @convention(c) (OpaquePointer?) -> Int32
    private typealias Text = @convention(c) (OpaquePointer?) -> UnsafePointer<CChar>?

    /// A value for a column.
    enum Value {
        /// Numbers from 2^63 on become negative: SQLite has no others.
        case number(UInt64)
        case text(String)
        case bytes([UInt8])
        case null
    }

    private let path: String
    private let library: UnsafeMutableRawPointer
    private var database: OpaquePointer?
    private var statements: [OpaquePointer?] = []
    private let execute: Execute
    private let prepare: Prepare
    private let bindNumber: BindNumber
    private let bindText: BindBytes
    private let bindBlob: BindBytes
    private let bindNull: BindNull
    private let step: Plain
    private let reset: Plain
    private let finalize: Plain
    private let close: Plain
    private let message: Text
    /// SQLite copies what is bound.
    private static let transient = -1

    /// Makes a new database.
    init(path: String) throws(LogError) {
        self.path = path
        guard let library = dlopen("libsqlite3.so.0", RTLD_NOW) else {
            throw LogError("libsqlite3 is not there: install Debian's package libsqlite3-0")
        }
        self.library = library
        func symbol<T>(_ name: String, _ type: T.Type) throws(LogError) -> T {
            guard let address = dlsym(library, name) else { throw LogError("libsqlite3 has no \(name)") }
            return unsafeBitCast(address, to: type)
        }
        let open = try symbol("sqlite3_open", Open.self)
        execute = try symbol("sqlite3_exec", Execute.self)
        prepare = try symbol("sqlite3_prepare_v2", Prepare.self)
        bindNumber = try symbol("sqlite3_bind_int64", BindNumber.self)
        bindText = try symbol("sqlite3_bind_text", BindBytes.self)
        bindBlob = try symbol("sqlite3_bind_blob", BindBytes.self)
        bindNull = try symbol("sqlite3_bind_null", BindNull.self)
        step = try symbol("sqlite3_step", Plain.self)
        reset = try symbol("sqlite3_reset", Plain.self)
        finalize = try symbol("sqlite3_finalize", Plain.self)
        close = try symbol("sqlite3_close", Plain.self)
        message = try symbol("sqlite3_errmsg", Text.self)
        if FileManager.default.fileExists(atPath: path) { throw LogError("\(path): is there already") }
        var database: OpaquePointer?
        let status = open(path, &database)
        self.database = database
        if status != 0 { throw failure }
    }

    deinit {
        for statement in statements { _ = finalize(statement) }
        _ = close(database)
    }

    private var failure: LogError { LogError("\(path): \(message(database).map { String(cString: $0) } ?? "SQLite has failed")") }

    func run(_ sql: String) throws(LogError) { if execute(database, sql, nil, nil, nil) != 0 { throw failure } }

    /// A statement to be carried out often; its number.
    func statement(_ sql: String) throws(LogError) -> Int {
        var statement: OpaquePointer?
        if prepare(database, sql, -1, &statement, nil) != 0 { throw failure }
        statements.append(statement)
        return statements.count - 1
    }

    func run(_ number: Int, _ values: Value...) throws(LogError) {
        let statement = statements[number]
        for (index, value) in values.enumerated() {
            let column = Int32(index + 1)
            let status: Int32
            switch value {
            case .number(let number): status = bindNumber(statement, column, Int64(bitPattern: number))
            case .text(let text): status = text.withCString { bindText(statement, column, $0, -1, Self.transient) }
            case .bytes(let bytes):
                status = bytes.withUnsafeBytes { bindBlob(statement, column, $0.baseAddress, Int32($0.count), Self.transient) }
            case .null: status = bindNull(statement, column)
            }
            if status != 0 { throw failure }
        }
        // 101: done.
        if step(statement) != 101 { throw failure }
        _ = reset(statement)
    }
}
