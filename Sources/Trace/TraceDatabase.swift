import Replay

/// A trace as an SQLite database: `docs/log-format.md` has the schema.
package final class TraceDatabase {
    private let database: SQLite
    private let trace: TraceReader
    private let site: Int
    private let access: Int
    private let dma: Int
    private let interrupt: Int
    private let other: Int
    private var siteRows: [UInt64] = []
    private var generation = 0
    private var rows: UInt64 = 0

    /// Makes a new file.
    package init(path: String, _ trace: TraceReader) throws(LogError) {
        self.trace = trace
        database = try SQLite(path: path)
        // It is made again if it does not get finished.
        try database.run("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN")
        try database.run(
            """
            CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT);
            CREATE TABLE site(id INTEGER PRIMARY KEY, kind TEXT, device TEXT, register TEXT, address INTEGER, width INTEGER,
                pc INTEGER, symbol TEXT);
            CREATE TABLE access(event INTEGER PRIMARY KEY, position INTEGER, time INTEGER, site INTEGER REFERENCES site(id),
                value INTEGER, fields TEXT, bytes BLOB);
            CREATE TABLE dma(event INTEGER PRIMARY KEY, position INTEGER, time INTEGER, device TEXT, request TEXT,
                is_write INTEGER, address INTEGER, length INTEGER, image INTEGER, image_offset INTEGER, bytes BLOB);
            CREATE TABLE interrupt(event INTEGER PRIMARY KEY, position INTEGER, time INTEGER, kind TEXT, value INTEGER);
            CREATE TABLE other(event INTEGER PRIMARY KEY, position INTEGER, time INTEGER, kind TEXT, value INTEGER, bytes BLOB);
            CREATE VIEW trace AS SELECT event, position, time, kind, device, register, address, width, value, fields, pc, symbol
                FROM access JOIN site ON site.id = access.site;
            """)
        site = try database.statement("INSERT INTO site VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
        access = try database.statement("INSERT INTO access VALUES (?, ?, ?, ?, ?, ?, ?)")
        dma = try database.statement("INSERT INTO dma VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        interrupt = try database.statement("INSERT INTO interrupt VALUES (?, ?, ?, ?, ?)")
        other = try database.statement("INSERT INTO other VALUES (?, ?, ?, ?, ?, ?)")
        let meta = try database.statement("INSERT INTO meta VALUES (?, ?)")
        for setting in trace.reader.header.settings {
            try database.run(meta, .text("machine.\(setting.name)"), .text(setting.value))
        }
        for image in trace.reader.header.images { try database.run(meta, .text("image.\(image.role)"), .text(image.digest)) }
        try database.run(meta, .text("complete"), .text(trace.reader.isComplete ? "1" : "0"))
    }

    package func add(_ item: TraceReader.Event) throws(LogError) {
        let event = item.event
        let (number, position, time) = (
            SQLite.Value.number(item.number), SQLite.Value.number(event.position), SQLite.Value.number(item.time)
        )
        let bytes: SQLite.Value = event.bytes.isEmpty ? .null : .bytes(event.bytes)
        if item.site >= 0 {
            if generation != trace.siteGeneration {
                generation = trace.siteGeneration
                siteRows = []
            }
            while siteRows.count <= item.site { try addSite(trace.sites[siteRows.count]) }
            let words = trace.sites[item.site].describe(event.value)
            let isBlock = event.kind == .portBlock
            try database.run(
                access, number, position, time, .number(siteRows[item.site]), isBlock ? .null : .number(event.value),
                words.isEmpty ? .null : .text(words), bytes)
            return
        }
        switch event.kind {
        case .dmaRead, .dmaWrite, .dmaImage:
            let isImage = event.kind == .dmaImage
            try database.run(
                dma, number, position, time, item.master.map { .text($0.device) } ?? .null,
                item.master?.request.map { .text($0) } ?? .null, .number(event.kind == .dmaRead ? 0 : 1),
                .number(event.address), .number(isImage ? UInt64(event.width) : UInt64(event.bytes.count)),
                isImage ? .number(event.pc) : .null, isImage ? .number(event.value) : .null, bytes)
        case .interruptLine, .interruptAcknowledge, .nmi:
            try database.run(interrupt, number, position, time, .text(event.kind.name), .number(event.value))
        default: try database.run(other, number, position, time, .text(event.kind.name), .number(event.value), bytes)
        }
    }

    private func addSite(_ new: TraceSite) throws(LogError) {
        rows += 1
        try database.run(
            site, .number(rows), .text(new.kind.name), .text(new.device), new.register.map { .text($0) } ?? .null,
            .number(new.address), .number(UInt64(new.width)), .number(new.pc), new.symbol.map { .text($0) } ?? .null)
        siteRows.append(rows)
    }

    /// Makes the indexes, and the file complete.
    package func finish() throws(LogError) {
        try database.run(
            """
            CREATE INDEX access_site ON access(site); CREATE INDEX access_position ON access(position);
            CREATE INDEX dma_position ON dma(position); CREATE INDEX dma_address ON dma(address);
            CREATE INDEX interrupt_position ON interrupt(position); CREATE INDEX site_place ON site(device, register);
            COMMIT;
            """)
    }
}
