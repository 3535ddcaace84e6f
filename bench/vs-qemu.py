"""Runs the guests of bench/vs-qemu and prints the table. Called by bench/vs-qemu."""
import math
import os
import platform
import subprocess
import sys
import time

EMU, KERNEL, OUT = os.environ["EMU"], os.environ["KERNEL"], os.environ["OUT"]
ROUNDS = int(os.environ["ROUNDS"])
APPEND = "console=ttyS0 panic=-1 quiet"

COMMON = ["-kernel", KERNEL, "-initrd", f"{OUT}/initrd.gz", "-append", APPEND]
QEMU = ["qemu-system-x86_64", "-accel", "tcg", "-m", "256", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]
OURS = ["--kernel", KERNEL, "--initrd", f"{OUT}/initrd.gz", "--append", APPEND, "--memory", "256M", "--pace", "free"]
RUNS = {
    "QEMU TCG": QEMU + COMMON,
    "QEMU rr=record": ["qemu-system-x86_64", *QEMU[3:], "-icount", f"shift=1,rr=record,rrfile={OUT}/qemu.bin", *COMMON],
    "emu": [EMU, *OURS],
    "emu, recording": [EMU, "--boundary=inputs", "--record", f"{OUT}/emu.emurec", *OURS],
}


def cpu_seconds(pid):
    """User and system time of a process so far, all of its threads."""
    # The number of a process's clock: clock_getcpuclockid(3), which Python has not for other processes.
    return time.clock_gettime(~pid << 3 | 2)


def run(command):
    """CPU seconds from one marker of the guest's console to the next."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    times, last, line = {}, 0.0, b""
    while byte := os.read(process.stdout.fileno(), 4096):
        line += byte
        while b"\n" in line:
            text, line = line.split(b"\n", 1)
            text = text.strip()
            if text.startswith(b"AT "):
                now = cpu_seconds(process.pid)
                times[text[3:].decode()] = now - last
                last = now
    process.wait()
    return times


def main():
    best = {name: {} for name in RUNS}
    for turn in range(ROUNDS):
        for name, command in RUNS.items():
            for member, seconds in run(command).items():
                best[name][member] = min(best[name].get(member, math.inf), seconds)
            print(f"round {turn + 1}: {name}", file=sys.stderr)
    with open("/proc/cpuinfo") as file:
        model = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    version = subprocess.check_output(["qemu-system-x86_64", "--version"], text=True).splitlines()[0]
    print(f"{model}, {os.cpu_count()} processors, Linux {platform.release()}; {version}; least of {ROUNDS} rounds\n")
    base = best["QEMU TCG"]
    print("| member | " + " | ".join(f"{name}, s" for name in RUNS) + " | TCG / emu recording |")
    print("|---|" + "---|" * (len(RUNS) + 1))
    ratios, records = [], []
    for member in base:
        if any(member not in best[name] for name in RUNS):
            print(f"| {member} | did not end everywhere |")
            continue
        ratio = base[member] / best["emu, recording"][member]
        ratios.append(ratio)
        records.append(best["QEMU rr=record"][member] / best["emu, recording"][member])
        print(f"| {member} | " + " | ".join(f"{best[name][member]:.3f}" for name in RUNS) + f" | {ratio:.2f} |")
    mean = lambda values: math.exp(sum(map(math.log, values)) / len(values))
    print(f"\ngeometric mean: {mean(ratios):.2f} times as fast as TCG, {mean(records):.2f} times as fast as rr=record")


main()
