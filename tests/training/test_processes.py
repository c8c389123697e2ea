"""One model, several processes. Here threads stand in for them, with MPI's calls made of a barrier; `oracles/test_mpi.py` has the real one."""

import contextvars
import pickle
import sys
import threading
import types

import numpy as np
import pytest

from tinygrad_llm import autograd as ag
from tinygrad_llm.cli import UsageError
from tinygrad_llm.training import Options, Processes, Trainer

from .small import causal_trainer, prepared, same_bits, weights

IN_PLACE, LOR = object(), object()


class World:
    """The seat of one thread at a table where all meet."""

    def __init__(self, table, number, count):
        self.table, self.number, self.count = table, number, count

    def Get_rank(self):
        return self.number

    def Get_size(self):
        return self.count

    def all(self, value):
        self.table.seats[self.number] = value
        self.table.barrier.wait(timeout=60)
        values = list(self.table.seats)
        self.table.barrier.wait(timeout=60)
        return values

    def bcast(self, value):
        return pickle.loads(self.all(pickle.dumps(value) if self.number == 0 else None)[0])

    def allreduce(self, value, op=None):
        values = self.all(value)
        return any(values) if op is LOR else sum(values[1:], values[0])

    def Allreduce(self, place, array, op=None):
        assert place is IN_PLACE and array.flags.c_contiguous
        values = self.all(array.copy())
        array[...] = np.any(values, 0) if op is LOR else np.sum(values, 0)


class Table:
    def __init__(self, count):
        self.seats, self.barrier = [None] * count, threading.Barrier(count)


@pytest.fixture
def together(monkeypatch):
    """together(count, work): what work(processes) gives in each of `count` of them."""

    def run(count, work):
        table, results, errors = Table(count), [None] * count, []
        mpi = types.SimpleNamespace(IN_PLACE=IN_PLACE, LOR=LOR)

        def body(number):
            try:
                results[number] = work(Processes(World(table, number, count)))
            except BaseException as error:
                errors.append(error)
                table.barrier.abort()

        monkeypatch.setitem(sys.modules, "mpi4py", types.SimpleNamespace(MPI=mpi))
        threads = [threading.Thread(target=contextvars.copy_context().run, args=(body, n)) for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise next((e for e in errors if not isinstance(e, threading.BrokenBarrierError)), errors[0])
        return results

    return run


def trainer(family, tmp_path, out=None, processes=None, **options):
    place = tmp_path / f"{family}-{processes.number if processes else 'alone'}"
    place.mkdir(exist_ok=True)
    data, model = prepared(family, tmp_path=place, dropout=options.pop("dropout", 0.0), context=24)
    chosen = {"steps": 6, "batch": 7, "accumulate": 2, "warmup": 2, "eval_every": 3, "save_every": 2, "lr": 1e-2} | options
    return Trainer(model, data.task, Options(**chosen), out=out, tokenizer=data.tokenizer, processes=processes)


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5"])
def test_they_take_the_steps_that_one_would_take(family, together, tmp_path):
    """Shares of 2, 2 and 3 examples whose numbers of predictions differ. SGD: Adam makes steps of gradients that are but rounding."""
    alone = trainer(family, tmp_path, optimizer="sgd")
    wanted = [alone.train_step() for _ in range(4)]

    def work(processes):
        mine = trainer(family, tmp_path, processes=processes, optimizer="sgd")
        return [mine.train_step() for _ in range(4)], weights(mine.model)

    results = together(3, work)
    for records, arrays in results:
        for got, want in zip(records, wanted):
            assert got["tokens"] == want["tokens"]
            assert (got["loss"], got["grad_norm"]) == pytest.approx((want["loss"], want["grad_norm"]), rel=2e-4)
        assert same_bits(arrays, results[0][1])
    for name, array in weights(alone.model).items():
        np.testing.assert_allclose(results[0][1][name], array, rtol=1e-4, atol=1e-6)


def test_all_begin_with_what_the_first_has_and_it_alone_writes(together, tmp_path):
    alone = causal_trainer(dropout=0.0, eval_every=4)
    wanted = alone.run()

    def work(processes):  # other weights and other data in each
        example = causal_trainer(dropout=0.0, seed=processes.number)
        mine = Trainer(example.model, example.task, alone.options, out=tmp_path / str(processes.number),
                       tokenizer=example.tokenizer, processes=processes)  # fmt: skip
        return mine.run(), weights(mine.model)

    results = together(2, work)
    assert same_bits(results[0][1], results[1][1])
    for result, _ in results:
        assert result["best_step"] == wanted["best_step"] and result["best_loss"] == pytest.approx(wanted["best_loss"], rel=1e-4)
    assert [p.name for p in tmp_path.iterdir()] == ["0"] and (tmp_path / "0" / "best").exists()


def test_resumed_they_end_with_the_same_bits(together, tmp_path):
    """Also of a model that draws while it trains: dropout, and ELECTRA's replaced tokens."""

    def work(processes, cut=None):
        mine = trainer("electra", tmp_path, tmp_path / f"run-{cut}", processes, dropout=0.3)
        original = mine.train_step
        mine.train_step = lambda: (original(), mine.stop() if mine.step == cut and processes.number == 1 else None)[0]
        first = mine.run()
        if cut:
            assert first["interrupted"] and first["steps"] == cut  # one asked all of them to stop
            mine = trainer("electra", tmp_path, tmp_path / f"run-{cut}", processes, dropout=0.3)
            if processes.number == 0:
                mine.resume()
            mine.run()
        return weights(mine.model)

    straight, resumed = together(2, work), together(2, lambda processes: work(processes, cut=3))
    for arrays in (*straight, *resumed):
        assert same_bits(arrays, straight[0])
    drawn = trainer("electra", tmp_path, dropout=0.3)
    drawn.run()
    assert not same_bits(weights(drawn.model), straight[0])  # each draws its own


def test_a_gradient_that_one_of_them_lacks_is_zero_there(together):
    def work(processes):
        used, partly, unused = (ag.tensor(np.ones((2, 3), np.float32), requires_grad=True) for _ in range(3))
        loss = used.sum() + (partly.T.sum() if processes.number else 0.0)
        (loss * (processes.number + 1.0)).backward()
        processes.add_gradients([used, partly, unused])
        return used.grad.numpy(), partly.grad.numpy(), unused.grad

    for used, partly, unused in together(2, work):
        assert (used == 3).all() and (partly == 2).all() and unused is None


def test_a_batch_that_is_too_small_and_a_missing_package(together, monkeypatch):
    with pytest.raises(ValueError, match="batch: expected at least one example for each of the 3 processes, got 2"):
        together(3, lambda processes: Trainer(*parts(), Options(batch=2), processes=processes))
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r"pip install 'tinygrad-llm\[mpi\]'"):
        Processes()


def test_one_that_fails_ends_them_all_at_its_exit(monkeypatch):
    """The others wait for it in MPI: it tells them when it has said what was wrong. One that ends well does not."""
    monkeypatch.setitem(sys.modules, "mpi4py", types.SimpleNamespace(MPI=None))
    left, alone = [], World(Table(1), 0, 1)
    world = World(Table(2), 0, 2)
    world.Abort = "abort"
    monkeypatch.setattr("tinygrad_llm.training.processes.atexit.register", lambda *call: left.append(call))
    with Processes(world) as processes:
        assert (processes.number, processes.count) == (0, 2)
    with pytest.raises(KeyError), Processes(alone):  # nobody waits
        raise KeyError("wrong")
    assert left == []
    with pytest.raises(KeyError, match="wrong"), Processes(world):
        raise KeyError("wrong")
    assert left == [("abort", 1)]
    with pytest.raises(UsageError), Processes(world):
        raise UsageError("--steps: expected at least 1, got 0")
    assert left[1:] == [("abort", 2)], "the code with which the command line ends"


def parts():
    example = causal_trainer()
    return example.model, example.task
