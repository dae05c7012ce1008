#!/usr/bin/env bash
# torchattacks 3.5.1: whoever installs it beside nothing else gets requests 2.25.1 of December 2020, and with it urllib3
# 1.26, idna 2 and chardet 4, whatever newer versions there are; beside a package that asks for a newer requests it cannot
# be installed at all.
#
# Its metadata ask for `requests~=2.25.1`, which is "2.25.1 or a later 2.25", not "a later 2". It uses requests in none of
# its attacks.
#
# Seen: what a resolver chooses
#   torchattacks                       requests 2.25.1, urllib3 1.26.20, idna 2.10, chardet 4.0.0
#   torchattacks, requests>=2.32       no solution
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
cd "$folder"
chosen=$(echo "torchattacks==3.5.1" | python -m uv pip compile --quiet --no-header --no-annotate -)
grep -E "^(requests|urllib3|idna|chardet)=" <<< "$chosen"
grep -q "^requests==2.25.1$" <<< "$chosen" || { echo "it takes a newer requests now"; exit 1; }
if printf 'torchattacks==3.5.1\nrequests>=2.32\n' | python -m uv pip compile --quiet - > both 2>&1; then
    echo "both can be installed now"
    exit 1
fi
echo "with requests>=2.32: no solution"
