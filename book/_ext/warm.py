"""Kernels are forked from one process that has imported the slow packages.

A kernel that starts by itself spends 2 to 7 seconds of a core on imports, and
some twenty pages have one each. What they show is the same. Where a fork
fails, and off Linux, where it may be unsafe, kernels start by themselves.
"""

import atexit
import gc
import multiprocessing
import os
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from threading import Thread

from jupyter_client.provisioning import (
    KernelProvisionerFactory,
    LocalProvisioner,
)

SLOW = Path(__file__).with_name("slow.txt").read_text().split()
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["ipykernel.kernelapp", *SLOW])


class Kernel(_CONTEXT.Process):
    """A forked kernel that answers as a ``Popen`` of its command would."""

    stdin = stdout = stderr = None

    def __init__(self, command, env, cwd=None, **_):
        super().__init__(daemon=True)  # ended when this process exits
        self.given = command, env, cwd or os.getcwd()

    def run(self):
        """In the process: be what the command would have started."""
        import matplotlib
        import numpy as np
        import pandas as pd
        import torch
        from ipykernel import kernelapp

        command, environment, folder = self.given
        os.setsid()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv[:] = command[2:]
        self.daemon = False  # it may have children, started as by default
        multiprocessing.set_start_method(None, force=True)
        np.random.seed()  # else all forks draw the same
        torch.seed()
        pd.set_option("display.max_columns", 20)  # imported in no notebook
        if backend := environment.get("MPLBACKEND"):  # of this page, as on
            matplotlib.rcParams["backend"] = backend  # import
        gc.freeze()  # what was imported is no garbage
        Thread(target=_end_with_parent, daemon=True).start()
        kernelapp.launch_new_instance(  # sockets stay on this machine
            [*command[3:], "--log-level=ERROR"], parent_handle=os.getppid())
        atexit._run_exitfuncs()  # a fork leaves them out

    def poll(self):
        """The exit status, or None while it runs."""
        return self.exitcode

    def wait(self):
        """The exit status, once there is one."""
        self.join()
        return self.exitcode

    def send_signal(self, number):
        """Send a signal."""
        os.kill(self.pid, number)


def _end_with_parent():
    """The parent that the kernel knows is the process that forks."""
    multiprocessing.parent_process().join()
    os._exit(1)


class Warm(LocalProvisioner):
    """Starts kernels by a fork."""

    async def launch_kernel(self, cmd, **kwargs):
        """Fork, or else start ``cmd``."""
        kernel = Kernel(cmd, **kwargs)
        try:
            kernel.start()
        except (OSError, EOFError) as error:  # no memory; the forker is gone
            self.log.warning("A kernel was not forked and starts by itself: "
                             "%r", error)
            return await super().launch_kernel(cmd, **kwargs)
        self.process, self.pid, self.pgid = kernel, kernel.pid, kernel.pid
        self.cwd = kwargs.get("cwd")
        return self.connection_info


def setup(app):
    """Register with Sphinx."""
    if sys.platform == "linux":
        factory = KernelProvisionerFactory.instance()
        factory.provisioners["warm"] = EntryPoint(
            "warm", f"{__name__}:Warm", factory.GROUP_NAME)
        factory.default_provisioner_name = "warm"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
