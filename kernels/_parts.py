"""What is compiled how: parts of other functions not to machine code at all, loops behind an address with more care.

Numba compiles every function that a kernel calls as if somebody called it from Python: wrapped, optimised, turned into machine
code, kept. LLVM then takes it into its callers and optimises it again in each of them; half of the time of a cold start went
there. Here a called function is typed and lowered once, and what LLVM makes of it is decided in its callers alone.
Where all of a worker is optimised in one go, a second round finds more: without it attention's forward pass took 4 to 7% longer.

Leaves out: `print`, and exceptions with values known at run time only, whose environment nobody sets up for a part.
"""
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class _PartLibrary(JITCodeLibrary):
    """LLVM code with what it calls linked in: no optimisation, no machine code."""

    def finalize(self):
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


class _WorkerLibrary(JITCodeLibrary):
    """Optimised twice."""

    def _optimize_final_module(self):
        super()._optimize_final_module()
        super()._optimize_final_module()


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerPart(NativeLowering):
    """Numba's lowering into a `_PartLibrary`; the function becomes known to its callers, and to nobody else."""

    _name = "lower_part"

    def run_pass(self, state):
        context = state.targetctx
        state.library = _PartLibrary(context.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        key = object()                                # what callers know the function by
        context.insert_user_function(key, state.cr.fndesc, [state.library])
        state.cr = state.cr._replace(cfunc=key)
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerWorker(NativeLowering):
    """Numba's lowering into a `_WorkerLibrary`."""

    _name = "lower_worker"

    def run_pass(self, state):
        state.library = _WorkerLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return super().run_pass(state)


def _compiler(lowering):
    """Numba's usual way with another last step."""
    class WithLowering(CompilerBase):
        def define_pipelines(self):
            manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
            manager.passes = [(lowering if step is NativeLowering else step, text) for step, text in manager.passes]
            manager.finalize()
            return [manager]

    return WithLowering


PartCompiler, WorkerCompiler = _compiler(_LowerPart), _compiler(_LowerWorker)


def keep_overload(dispatcher, result):
    """What a dispatcher does with a finished part: keep it, but don't offer it to Python."""
    dispatcher.overloads[tuple(result.signature.args)] = result
