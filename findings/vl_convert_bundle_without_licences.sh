#!/usr/bin/env bash
# vl-convert-python 1.9.0.post1: `javascript_bundle` returns Vega, Vega-Lite, Vega-Embed, D3 and others as one script of
# 0.9 MB, without a copyright notice or a licence in it, and the wheel holds the licence of vl-convert alone. The
# licences of the parts (BSD-3-Clause, ISC, MIT) ask that their notices go along with every copy.
#
# Whoever puts the script into a page or a package must collect the notices; camdrift does in LICENSE.plotting_library.
#
# Seen: 897,589 characters, notices in it: 0; licence files in the wheel: 1, which names neither Vega's authors nor D3's.
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet vl-convert-python==1.9.0.post1
cd "$folder"
python - <<'PYTHON'
import importlib.metadata

import vl_convert

script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
notices = [words for words in ("Copyright", "Permission to use", "Redistribution", "@license") if words in script]
files = importlib.metadata.distribution("vl-convert-python").files or []
texts = [file.read_text() for file in files if "licen" in str(file).lower()]
authors = [name for name in ("Interactive Data Lab", "Bostock") if any(name in text for text in texts)]
print(f"{len(script):,} characters, notices in it: {len(notices)}; licence files in the wheel: {len(texts)}, authors: {authors}")
assert not notices, "the script now carries notices"
assert not authors, "the wheel now carries the licences of the parts"
PYTHON
