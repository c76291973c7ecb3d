"""Manifests for tests: small, quick, of what every test machine has (busybox-static)."""

HEAD = """
apiVersion: bayplan/v1alpha1
kind: Project
metadata: {name: test}
---
apiVersion: bayplan/v1alpha1
kind: Image
metadata: {name: box}
spec: {host: {programs: [/bin/busybox]}}
"""


def document(kind: str, name: str, spec: str, metadata: str = "") -> str:
    """Return one document; *spec* is flow-style YAML."""
    extra = f", {metadata}" if metadata else ""
    return (
        "\n---\napiVersion: bayplan/v1alpha1\n"
        f"kind: {kind}\nmetadata: {{name: {name}{extra}}}\nspec: {spec}\n"
    )


def sleeper(name: str, container: str = "", spec: str = "") -> str:
    """Return a Container that sleeps and ends at once when asked to."""
    inner = "image: box, command: [sleep, '1000000'], stopSignal: SIGKILL"
    inner += f", {container}" if container else ""
    outer = f"container: {{{inner}}}, update: {{healthyFor: 0s}}" + (f", {spec}" if spec else "")
    return document("Container", name, f"{{{outer}}}")
