"""Runs one function of a client script: `SCRIPT FUNCTION ADDRESS`, with its arguments on stdin.

Arguments and results are JSON: one line for what the function returns, or one for each thing that it yields.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Mapping


def main(scenarios: Mapping[str, object]) -> None:
    """Run the function that the command line names.

    Args:
        scenarios: The script's globals.
    """
    name, address = sys.argv[1:]
    function = scenarios[name]
    assert callable(function)
    result = function(address, **json.load(sys.stdin))
    if inspect.isgenerator(result):
        for told in result:
            print(json.dumps(told), flush=True)
        return
    print(json.dumps(asyncio.run(result) if inspect.iscoroutine(result) else result))
