"""Types into psql, on a terminal of its own, what each line of standard input says, and Tab; prints what is shown then as JSON."""
import json
import os
import pty
import sys

PROMPT = b"=> "
psql, port = sys.argv[1:3]
child, terminal = pty.fork()
if child == 0:
    # Without colours, bracketed pastes and moves of the cursor, as far as readline can.
    environment = {**os.environ, "TERM": "dumb", "INPUTRC": "/dev/null", "PAGER": "cat", "COLUMNS": "500"}
    os.execvpe(psql, [psql, "-X", "-h", "127.0.0.1", "-p", port, "-U", "tester", "-d", "anabranch"], environment)


def read_to(mark):
    read = b""
    while mark not in read:
        read += os.read(terminal, 65536)
    # It rings where there is more than one way to go on.
    return read.replace(b"\a", b"")


def run(number, before=b""):
    """Types, takes the line back, and has psql say a word: then all before it has been done."""
    said = b"\nsaid %d." % number
    os.write(terminal, before + b"\x01\x0b\\echo said %d.\n" % number)
    shown = read_to(said)
    # What is typed before the prompt is there would be echoed by the terminal itself.
    return shown if PROMPT in shown.rsplit(said, 1)[1] else shown + read_to(PROMPT)


run(0)
for number, line in enumerate(sys.stdin, start=1):
    typed = json.loads(line)["typed"].encode()
    print(json.dumps({"shown": run(number, typed + b"\t").decode(errors="replace")}))
