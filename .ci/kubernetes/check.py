#!/usr/bin/env python3
"""Hold rendered manifests against the published schemas of Kubernetes' API, strictly: an unknown key is a mistake.

    kustomize build FOLDER | .ci/kubernetes/check.py NAME

Every version from OLDEST to the newest that kubernetes-validate has is asked. Kinds that are not Kubernetes' own have no schema
there: those of OPERATOR are for operator.go, any other one fails.
"""

import copy
import sys

import kubernetes_validate
import yaml
from kubernetes_validate.utils import all_versions

OLDEST = "1.30.0"  # lifecycle.preStop.sleep; docs/deploy/kubernetes/README.md says so
OPERATOR = {"PodMonitor", "PrometheusRule"}  # the Prometheus operator's


def problem(resource, version):
    """The first mistake of the resource, or None."""
    try:
        kubernetes_validate.validate(resource, version, strict=True)
    except kubernetes_validate.ValidationError as e:
        return f"{'.'.join(map(str, e.path)) or '(top)'}: {e.message}"
    return None


def main(name):
    resources = [r for r in yaml.safe_load_all(sys.stdin) if r]
    versions = list(dict.fromkeys(all_versions()))  # in order, each twice: there are strict schemas too
    versions = versions[versions.index(OLDEST):]
    bad, checked, left = [], 0, []
    for r in resources:
        what = f"{r['kind']} {r['metadata']['name']}"
        if r["kind"] in OPERATOR:
            left.append(what)
            continue
        wrong = copy.deepcopy(r)
        wrong["colour"] = "red"
        for version in versions:
            try:
                if found := problem(r, version):
                    bad.append(f"{what}, Kubernetes {version}: {found}")
                if not problem(wrong, version):
                    bad.append(f"{what}, Kubernetes {version}: the schema takes any key, so this check proves nothing")
            except kubernetes_validate.SchemaNotFoundError as e:
                bad.append(f"{what}: {e.message} (fix: mend the kind, or let operator.go check it and name it in OPERATOR)")
        checked += 1
    if not checked:
        bad.append("nothing was rendered")
    for line in bad:
        print(f"{name}: {line}", file=sys.stderr)
    if bad:
        return 1
    print(f"{name}: {checked} resources fit Kubernetes {versions[0]} to {versions[-1]}" + (f"; left to operator.go: {', '.join(left)}" if left else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
