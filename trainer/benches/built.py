"""Reads cargo's messages (--message-format=json) and prints the path of the benchmark that cargo built."""

import json
import sys

paths = [message["executable"] for message in map(json.loads, sys.stdin) if message.get("executable")]
print(paths[-1])
