"""What test_kill kills: trainings, each in a process of its own, forked so that it starts at once.

Argument: a folder as `made_up_training.prepare` makes it. Each line of standard input
is a JSON object: what `train` takes, and under "kill" when the training is to be killed, if at all.
The answer is its exit code, or minus the signal that ended it; an error is in `<folder>.error`.
"""

import json
import math
import os
import resource
import signal
import sys
import time
from pathlib import Path

import torch

from conftest import tiny_model
from made_up_training import teacher, train
from miniplm.data.tokenizer import load_tokenizer
from miniplm.model_checks import check_causal_head


def die_at(operation, folder):
    """Kill this process right before the n-th file operation on something in a folder."""
    count = 0

    def hook(event, arguments):
        nonlocal count
        if event.split(".")[0] in ("open", "os", "shutil") and folder in str(arguments):
            count += 1
            if count == operation:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def limit_files(num_bytes, *, die):
    """Let no file grow larger; an attempt fails as on a full disk, or kills this process."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if die else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def killed_after(child, folder, num_lines, delay):
    """Wait for so many further lines of metrics, and a moment, then kill; the exit code."""
    metrics = Path(folder) / "metrics.jsonl"
    target, ended = lines_in(metrics) + num_lines, (0, 0)
    while ended == (0, 0) and lines_in(metrics) < target:
        time.sleep(0.0005)
        ended = os.waitpid(child, os.WNOHANG)
    if ended == (0, 0):
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended[1])


def lines_in(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def warm_up(given):
    """Have imported what libraries import late, once for all children."""
    load_tokenizer(given / "tokenizer")
    for model in (teacher().model, tiny_model()):
        check_causal_head(model)


def serve(given):
    torch.set_num_threads(1)
    warm_up(given)
    for line in sys.stdin:
        order = json.loads(line)
        kill = order.pop("kill", {})
        child = os.fork()
        if child == 0:
            try:
                if "at_operation" in kill:
                    die_at(kill["at_operation"], order["folder"] + "/checkpoints")
                if "file_limit" in kill:
                    limit_files(kill["file_limit"], die=kill["die"])
                train(given, **order)
            except BaseException as error:  # noqa: BLE001  (told by the exit code)
                Path(order["folder"] + ".error").write_text(f"{type(error).__name__}: {error}")
                os._exit(1)
            os._exit(0)
        moment = (kill.get("after_lines", math.inf), kill.get("delay", 0.0))
        print(killed_after(child, order["folder"], *moment), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
