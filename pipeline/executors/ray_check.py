"""Ray as `tamis doctor` asks for it, in a process of its own: `python -m tamis.pipeline.executors.ray_check [ADDRESS]`.

Invariant: starts no cluster; joins the one at ADDRESS if it is given, and prints one JSON object: version, resources.
"""

from __future__ import annotations

import json
import logging
import sys


def main() -> None:
    import ray

    found: dict[str, object] = {"version": ray.__version__}
    if len(sys.argv) > 1:
        ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
        found["resources"] = ray.cluster_resources()
        found["nodes"] = len([node for node in ray.nodes() if node["Alive"]])
        ray.shutdown()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
