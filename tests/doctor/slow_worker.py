"""A worker that waits."""

import time


class Waiting:
    def wait(self, seconds):
        time.sleep(seconds)
        return {"waited": seconds}


def open_worker(spec):
    return Waiting()
