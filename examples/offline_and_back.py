"""The link breaks in the middle of a text, and comes back.

While no server can be reached, the draft on the device continues alone. Its text is provisional (printed in grey here).
When the link is back, the target corrects it: the final text is the same as without the break.

The example starts its own server (or uses the one whose address you give) and a link that it can cut.
"""

import subprocess
import sys

import edgespec


def start(*arguments: str) -> tuple["subprocess.Popen[str]", str]:
    """Run an edgespec command; returns its process and the address that it listens on."""
    command = [sys.executable, "-m", "edgespec", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


def show(text: str, grey: bool = False) -> None:
    print(f"\033[2m{text}\033[0m" if grey else text, end="", flush=True)


server = None
if len(sys.argv) > 1:
    address = sys.argv[1]
else:
    server, address = start("serve", "--port", "0")
link, link_address = start("link", "--to", address, "--rtt-ms", "40")

params = edgespec.SamplingParams(max_new_tokens=60, ignore_eos=True)
options = edgespec.LinkOptions(offline_after_s=0.3, give_up_s=60)
with edgespec.Session(link_address, edgespec.bundled_engine(), params, link=options) as session:
    session.prompt("def read_lines(path):\n    ")
    cut = False
    for step in session:
        for event in step.events:
            show(f"\n[{event}]\n")
        if step.revised:
            show(f"\n[the target replaces {step.revised} provisional tokens]\n")
        show(step.text)
        if step.provisional:
            show(step.provisional, grey=True)
        if not cut and len(session.tokens) >= 10:
            cut = True
            link.kill()
            link.wait()
        elif link.poll() is not None and len(session.provisional) > 20:
            link, _ = start("link", "--listen", link_address, "--to", address, "--rtt-ms", "40")
    show(f"\n\nThe whole text:\n{session.text}\n")

for process in (link, server):
    if process is not None:
        process.terminate()
        process.wait()
