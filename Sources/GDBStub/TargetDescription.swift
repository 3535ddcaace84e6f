import Boundary

/// gdb's descriptions of the target, as XML (gdb manual, "Target Descriptions", "Memory Map Format").
enum TargetDescription {
    static func xml(_ architecture: String, _ registers: [DebugRegister]) -> String {
        var text = """
            <?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0">\
            <architecture>\(architecture)</architecture>
            """
        var feature = ""
        for (number, register) in registers.enumerated() {
            if register.feature != feature {
                if !feature.isEmpty { text += "</feature>" }
                feature = register.feature
                text += "<feature name=\"\(feature)\">" + types(feature)
            }
            text += "<reg name=\"\(register.name)\" bitsize=\"\(register.bits)\" type=\"\(register.type)\" regnum=\"\(number)\"/>"
        }
        return text + "</feature></target>"
    }

    private static func types(_ feature: String) -> String {
        func flags(_ id: String, _ names: [(String, Int)]) -> String {
            "<flags id=\"\(id)\" size=\"4\">"
                + names.map { "<field name=\"\($0.0)\" start=\"\($0.1)\" end=\"\($0.1)\"/>" }.joined() + "</flags>"
        }
        switch feature {
        case "org.gnu.gdb.i386.core":
            return flags(
                "i386_eflags",
                [
                    ("CF", 0), ("", 1), ("PF", 2), ("AF", 4), ("ZF", 6), ("SF", 7), ("TF", 8), ("IF", 9), ("DF", 10),
                    ("OF", 11), ("NT", 14), ("RF", 16), ("VM", 17), ("AC", 18), ("VIF", 19), ("VIP", 20), ("ID", 21),
                ])
        case "org.gnu.gdb.i386.sse":
            let views = [
                ("v4f", "ieee_single", 4), ("v2d", "ieee_double", 2), ("v16i8", "int8", 16), ("v8i16", "int16", 8),
                ("v4i32", "int32", 4), ("v2i64", "int64", 2),
            ]
            return views.map { "<vector id=\"\($0.0)\" type=\"\($0.1)\" count=\"\($0.2)\"/>" }.joined()
                + "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>"
                + "<field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v8_int16\" type=\"v8i16\"/>"
                + "<field name=\"v4_int32\" type=\"v4i32\"/><field name=\"v2_int64\" type=\"v2i64\"/>"
                + "<field name=\"uint128\" type=\"uint128\"/></union>"
                + flags(
                    "i386_mxcsr",
                    [
                        ("IE", 0), ("DE", 1), ("ZE", 2), ("OE", 3), ("UE", 4), ("PE", 5), ("DAZ", 6), ("IM", 7),
                        ("DM", 8), ("ZM", 9), ("OM", 10), ("UM", 11), ("PM", 12), ("FZ", 15),
                    ])
        default: return ""
        }
    }

    /// gdb is to try every address: what is mapped changes all the time.
    static let memoryMap = """
        <?xml version="1.0"?><!DOCTYPE memory-map PUBLIC "+//IDN gnu.org//DTD GDB Memory Map V1.0//EN" \
        "http://sourceware.org/gdb/gdb-memory-map.dtd"><memory-map>\
        <memory type="ram" start="0x0" length="0x8000000000000000"/>\
        <memory type="ram" start="0x8000000000000000" length="0x8000000000000000"/></memory-map>
        """
}
