import subprocess
import sys


def _run(code: str) -> subprocess.CompletedProcess[str]:
    program = f"import sys; sys.modules['pytest'] = None\n{code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


def test_a_memory_sink_and_events_need_no_pytest() -> None:
    run = _run("from bridge.testing import MemorySink, make_event; MemorySink(); print(make_event('x').body)")
    assert (run.returncode, run.stdout, run.stderr) == (0, "x\n", "")


def test_the_suite_says_which_extra_it_needs() -> None:
    run = _run("import bridge.testing.contract")
    assert run.returncode == 1
    assert "bridge.testing.contract needs pytest: pip install 'rocketmq-bridge[testing]'" in run.stderr
