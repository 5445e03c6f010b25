"""A stand-in for a bucket, for the tests of gs:// paths."""

import io
import threading

import fsspec


class ObjectStore(fsspec.AbstractFileSystem):
    """Objects under flat keys, in memory, which appear whole: no folders, append, rename, locks."""

    protocol = ("gcs", "gs")
    cachable = False
    lock = threading.Lock()
    objects: dict[str, bytes]
    reads: list[tuple[str, int]]  # key and size of every read

    def ls(self, path, detail=True, **kwargs):
        path, found = self._strip_protocol(path), {}
        for key, content in sorted(self.objects.items()):
            if key == path or key.startswith(path + "/"):
                name = key if key == path else f"{path}/{key[len(path) + 1 :].split('/')[0]}"
                kind = "file" if name == key else "directory"
                size = len(content) if name == key else 0
                found.setdefault(name, {"name": name, "size": size, "type": kind})
        if not found:
            raise FileNotFoundError(path)
        return list(found.values()) if detail else list(found)

    def info(self, path, **kwargs):
        path = self._strip_protocol(path)
        found = self.ls(path)
        return found[0] if path in self.objects else {"name": path, "size": 0, "type": "directory"}

    def cat_file(self, path, start=None, end=None, **kwargs):
        content = self._read(path)[start:end]
        self.reads.append((self._strip_protocol(path), len(content)))
        return content

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        key = self._strip_protocol(path)
        with self.lock:
            if mode == "create" and key in self.objects:
                raise FileExistsError(path)
            self.objects[key] = bytes(value)

    def _rm(self, path):
        self.objects.pop(self._strip_protocol(path), None)

    def _open(self, path, mode="rb", **kwargs):
        if mode == "rb":
            return _Download(self, path)
        if mode == "wb":
            return _Upload(self, path)
        raise NotImplementedError(f"an object store opens nothing for {mode}")

    def mkdir(self, path, **kwargs):
        pass

    makedirs = mkdir

    def mv(self, *args, **kwargs):
        raise NotImplementedError("an object store has no rename")

    rename = move = cp_file = mv

    def _read(self, path):
        try:
            return self.objects[self._strip_protocol(path)]
        except KeyError:
            raise FileNotFoundError(path) from None


class _Download(io.BytesIO):
    def __init__(self, store, path):
        super().__init__(store._read(path))
        self._store, self._key = store, store._strip_protocol(path)

    def read(self, *args):
        content = super().read(*args)
        self._store.reads.append((self._key, len(content)))
        return content


class _Upload(io.BytesIO):
    def __init__(self, store, path):
        super().__init__()
        self._put = lambda content: store.pipe_file(path, content)

    def close(self):
        if not self.closed:
            self._put(self.getvalue())
        super().close()
