"""Package layout only; everything else about the project stands in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    # The benchmark questions live in benchmarks/ at the root, one file per question, and are installed
    # beside the harness, so that `tinygrad-llm bench` works from a wheel too.
    packages=[*find_packages(include=["tinygrad_llm*", "kernels*"]), "tinygrad_llm.bench.questions"],
    package_dir={"tinygrad_llm.bench.questions": "benchmarks"},
    package_data={
        "": ["*.md"],
        "kernels": ["py.typed"],
        "tinygrad_llm": ["py.typed", "**/*.html", "**/*.css", "**/*.js", "**/*.json", "**/*.svg"],
    },
)
