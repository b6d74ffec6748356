import threading
import time

import pytest
import torch

from codec.dsp.precision import full_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SETTINGS = {
    CPU: [torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv],
    CUDA: [torch.backends.cuda.matmul, torch.backends.cudnn.conv],
}


def precisions(device):
    return [setting.fp32_precision for setting in SETTINGS[device]]


@pytest.fixture(autouse=True)
def restore():
    before = {device: precisions(device) for device in SETTINGS}
    yield
    for device, values in before.items():
        for setting, value in zip(SETTINGS[device], values, strict=True):
            setting.fp32_precision = value


@pytest.mark.parametrize("device", [CPU, CUDA])
@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_everything_is_float32_inside_and_as_before_outside(device, precision):
    torch.set_float32_matmul_precision(precision)
    before = precisions(device)
    with full_precision(device):
        assert set(precisions(device)) == {"ieee"}
        with full_precision(device):
            assert set(precisions(device)) == {"ieee"}
        assert set(precisions(device)) == {"ieee"}
    assert precisions(device) == before
    with pytest.raises(KeyError), full_precision(device):
        raise KeyError
    assert precisions(device) == before
    torch.set_float32_matmul_precision("highest")


def test_the_older_settings_can_be_read_afterwards():
    """Torch raises where old and new settings contradict each other."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with full_precision(CUDA), full_precision(CPU):
        torch.nn.Conv1d(2, 3, 1)(torch.ones(1, 2, 4)).sum().backward()
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_a_setting_of_the_caller_is_restored(device):
    for setting in SETTINGS[device]:
        setting.fp32_precision = "tf32"
    with full_precision(device):
        assert set(precisions(device)) == {"ieee"}
    assert set(precisions(device)) == {"tf32"}


def test_autocast_is_off_inside():
    first, second = torch.randn(8, 8), torch.randn(8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (first @ second).dtype == torch.bfloat16
        with full_precision(CPU):
            assert not torch.is_autocast_enabled("cpu")
            product = first @ second
            assert product.dtype == torch.float32
        assert torch.is_autocast_enabled("cpu")
        assert (first @ second).dtype == torch.bfloat16
    assert torch.allclose(product.double(), first.double() @ second.double(), atol=1e-5)


def test_a_thread_may_use_it():
    results = []

    def work():
        with full_precision(CPU):
            results.extend(precisions(CPU))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert set(results) == {"ieee"}


def test_settings_hold_until_the_last_of_many_threads_leaves():
    """They belong to the process: a thread that leaves must not restore them while another still computes."""
    torch.set_float32_matmul_precision("medium")
    before = precisions(CPU)
    all_inside, seen = threading.Barrier(8), []

    def work(number):
        with full_precision(CPU):
            all_inside.wait()
            for _ in range(50 * number):  # leave one after the other
                with full_precision(CPU):
                    pass
            seen.append(precisions(CPU))
            time.sleep(0.005 * number)
            seen.append(precisions(CPU))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 16
    assert all(set(each) == {"ieee"} for each in seen)
    assert precisions(CPU) == before
    torch.set_float32_matmul_precision("highest")
