"""The scenarios of bench/log-size, their runs, the table and the plot. Called by bench/log-size."""
import csv
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time

EMU, KERNEL, FULL, OUT = (os.environ[name] for name in ["EMU", "KERNEL", "FULL", "OUT"])
INITRD = os.path.join(OUT, "initrd.gz")
APPEND = "console=ttyS0 panic=-1"


def typing(count):
    """A script that types `count` keys in lines of ten, with pauses of virtual time between them."""
    generator = random.Random(1)
    lines = []
    for index in range(count // 10):
        lines += [f'type "{key}"\nsleep 0.{generator.randint(20, 90):03d} virtual' for key in "echo abcd"]
        lines += ['type "\\n"', 'wait "emu# "']
    return "\n".join(lines)


SCENARIOS = {
    "boot": "",
    "idle 60 s": "sleep 60 virtual",
    "500 keys": typing(500),
}


MIB = 16


def server(data):
    """The port of an HTTP server of one file."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            peer, _ = listener.accept()
            peer.recv(4096)
            try:
                peer.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(4096):
                    pass
            except OSError:
                pass
            peer.close()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def outside():
    """Scenarios with something outside: kernel, initramfs, what its init does, options, and the bytes that come in."""
    noise = os.urandom(MIB << 20)
    words = [line.encode() for line in ("guest", "record", "packet", "the", "of", "deterministic", "replay", "0x3f8", "\n")]
    generator = random.Random(2)
    text = b" ".join(generator.choice(words) for _ in range(MIB << 18))[:MIB << 20]
    disk = os.path.join(OUT, "usb.img")
    with open(disk, "wb") as file:
        file.write(noise)
    samples = os.urandom(48000 * 4)
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, 48000, 192000, 4, 16) + b"data" + struct.pack("<I", len(samples))
    microphone = os.path.join(OUT, "microphone.wav")
    with open(microphone, "wb") as file:
        file.write(b"RIFF" + struct.pack("<I", len(head) + len(samples)) + head + samples)
    return {
        f"download of {MIB} MiB of random bytes": (KERNEL, "network.gz", f"get={server(noise)}", ["--net", "user"], MIB << 20),
        f"download of {MIB} MiB of text": (KERNEL, "network.gz", f"get={server(text)}", ["--net", "user"], MIB << 20),
        f"USB disk, {MIB} MiB read": (FULL, "usb.gz", "disk=1", ["--disk", f"{disk},if=usb"], MIB << 20),
        "sound in, 40000 samples": (FULL, "sound.gz", "", ["--microphone", f"wav:{microphone}"], 160000),
    }


def script(name, body):
    path = os.path.join(OUT, name.replace(" ", "-") + ".script")
    with open(path, "w") as file:
        file.write(f'wait "emu# " 300\n{body}\ntype "poweroff -f\\n"\n')
    return path


def run(path, *options):
    """Runs a scripted scenario; returns seconds of host time."""
    return timed("--kernel", KERNEL, "--initrd", INITRD, "--append", APPEND, "--script", path, "--pace", "free", *options)


def timed(*options):
    start = time.monotonic()
    subprocess.run(
        [EMU, "--rtc", "1700000000", *options], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    return time.monotonic() - start


def qemu():
    """Bytes of QEMU's log for a boot to the shell and power-off; None without QEMU."""
    if not shutil.which("qemu-system-x86_64"):
        return None
    log = os.path.join(OUT, "qemu.bin")
    command = lambda mode: [
        "qemu-system-x86_64", "-m", "256", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
        "-icount", f"shift=3,rr={mode},rrfile={log}", "-kernel", KERNEL, "-initrd", INITRD, "-append", APPEND]
    start = time.monotonic()
    process = subprocess.Popen(command("record"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    text = b""
    while not text.endswith(b"emu# "):
        byte = process.stdout.read(1)
        if not byte:
            return None
        text += byte
    process.stdin.write(b"poweroff -f\n")
    process.stdin.flush()
    process.communicate()
    recorded = time.monotonic() - start
    start = time.monotonic()
    try:
        subprocess.run(command("replay"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        print(f"QEMU: recorded in {recorded:.2f} s, replayed in {time.monotonic() - start:.2f} s", file=sys.stderr)
    except subprocess.TimeoutExpired:
        print(f"QEMU: recorded in {recorded:.2f} s; the replay has not ended after 120 s", file=sys.stderr)
    return os.path.getsize(log)


def main():
    rows = []
    scenarios = [(name, lambda *options, path=script(name, body): run(path, *options), 0) for name, body in SCENARIOS.items()]
    for name, (kernel, initrd, append, options, size) in outside().items():
        base = ["--kernel", kernel, "--initrd", os.path.join(OUT, initrd), "--append", f"{APPEND} quiet {append}", "--memory", "256M", *options]
        scenarios.append((name, lambda *options, base=base: timed(*base, *options), size))
    for name, scenario, payload in scenarios:
        plain = scenario()
        for boundary in ["inputs", "devices"]:
            file = os.path.join(OUT, f"{name.replace(' ', '-').replace(',', '')}-{boundary}.emurec")
            seconds = scenario(f"--boundary={boundary}", "--record", file)
            # The pair of this recording, in the same minute of the same machine.
            plain = min(plain, scenario(*(["--boundary=devices", "--no-record"] if boundary == "devices" else [])))
            info = json.loads(subprocess.check_output([EMU, "info", "--json", "--columns", file]))
            start = time.monotonic()
            subprocess.run([EMU, "verify", file], check=True, stdout=subprocess.DEVNULL)
            replay = time.monotonic() - start
            rows.append({
                "scenario": name, "boundary": boundary, "bytes": info["bytes"],
                "bytes / payload": round(info["bytes"] / payload, 4) if payload else "",
                "bytes per virtual s": round(info["bytes"] / info["virtualSeconds"], 1),
                "bytes per 1000 instructions": round(info["bytes"] * 1000 / info["instructions"], 5),
                "transactions": info["transactions"],
                "bytes per transaction beyond payload":
                    round(info["bytesPerTransactionBeyondPayload"], 3) if info["transactions"] else "",
                "run time / unrecorded": round(seconds / plain, 3),
                "replay, s": round(replay, 2),
                "events": " ".join(f"{kind} {count}" for kind, count in sorted(info["events"].items())),
            })
            print(f"{name}, {boundary}: {info['bytes']} bytes", file=sys.stderr)
        if name == "boot" and (size := qemu()) is not None:
            rows.append({"scenario": name, "boundary": "QEMU rr=record", "bytes": size})
    columns = list(rows[0])
    with open(os.path.join(OUT, "log-size.csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row.get(column, "")) for column in columns) + " |")
    plot(rows)
    print(f"\nwritten: {OUT}/log-size.csv, {OUT}/log-size.svg", file=sys.stderr)


def plot(rows):
    """Bars on a logarithmic scale."""
    import math
    height = 26 * len(rows) + 40
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}" font-family="sans-serif" font-size="13">']
    for index, row in enumerate(rows):
        y = 30 + index * 26
        width = 70 * math.log10(max(row["bytes"], 1))
        colour = {"inputs": "#4c78a8", "devices": "#f58518"}.get(row["boundary"], "#999999")
        parts.append(f'<text x="4" y="{y + 14}">{row["scenario"]}, {row["boundary"]}</text>')
        parts.append(f'<rect x="200" y="{y}" width="{width:.0f}" height="18" fill="{colour}"/>')
        parts.append(f'<text x="{206 + width:.0f}" y="{y + 14}">{row["bytes"]} bytes</text>')
    parts.append('<text x="4" y="18">Log size (logarithmic scale)</text></svg>')
    with open(os.path.join(OUT, "log-size.svg"), "w") as file:
        file.write("\n".join(parts))


main()
