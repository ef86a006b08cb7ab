"""The programs that take the place of a training script and of a model's server."""

from __future__ import annotations

SCRIPT = """
import json, os, pathlib, signal, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
config = base / "input" / "config"
hyper = json.loads((config / "hyperparameters.json").read_text())
(base / "model" / "sub").mkdir()
(base / "model" / "weights.bin").write_bytes(b"w" * 10)
(base / "model" / "sub" / "more.txt").write_text("more")
(base / "output" / "data" / "report.txt").write_text("report")
(base / "output" / "data" / "container.json").write_text(json.dumps({
    "env": dict(os.environ), "cwd": os.getcwd(), "argv": sys.argv,
    "files": sorted(str(p.relative_to(base)) for p in base.rglob("*") if p.is_file()),
    "channels": json.loads((config / "inputdataconfig.json").read_text()),
    "resources": json.loads((config / "resourceconfig.json").read_text()),
    "checkpoint": [p.read_text() for p in (base / "checkpoints").glob("*.txt")],
}))
(base / "checkpoints" / "step.txt").write_text(hyper.get("step", "1"))
print("step=1/2 loss=2.5"); print("step=2/2 loss=-1.25e-01")
mode = hyper.get("mode", "")
if mode == "fail":
    (base / "output" / "failure").write_text("the data has no rows")
    sys.exit(3)
if mode == "silent": sys.exit(1)
if mode == "wait":
    def stop(*_):
        (base / "model" / "stopped.txt").write_text("yes"); print("got SIGTERM"); sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
if mode in ("ignore", "family"): signal.signal(signal.SIGTERM, signal.SIG_IGN)
if mode == "family":
    child = os.fork()
    if child: print("child", child, flush=True)
    time.sleep(60)
if mode in ("wait", "ignore"):
    print("waiting", flush=True); time.sleep(60)
"""
# GET /ping answers 503 for the model `sick`. POST /invocations answers with the model's text and the body, or 400 to `bad`.
# The model `dead` ends the server.
SERVER = """
import http.server, os, pathlib, sys, time
model = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "model", "answer.txt").read_text()
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body):
        self.send_response(status); self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def do_GET(self): self.answer(503 if model == "sick" else 200, b"")
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(400, b"bad input") if body == b"bad" else self.answer(200, model.encode() + b":" + body)
    def log_message(self, *a): pass
print("serving", model, flush=True)
if model == "dead": sys.exit(1)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
