"""The one distribution of this repository: the pipeline, its steps, the networks and the domain library."""

from pathlib import Path

from setuptools import find_packages, setup

# Extras follow dependency weight, so that an image holds no more than its steps need (infra/docker).
EXTRAS = {
    # What every image reads: canonical cases, masks, tables.
    "imaging": [
        "connected-components-3d",
        "nibabel",
        "opencv-python-headless",
        "pandas",
        "pillow",
        "pyarrow",
        "scipy",
    ],
    "dicom": ["highdicom", "pydicom", "python-gdcm"],
    # With the two above.
    "data": [
        "boto3",
        "dvc[s3]",
        "great-expectations>=1.24",
        "imagehash",
        "nilearn",
        "tenacity",
    ],
    # The messages of TF Serving are those that an exported model is warmed up with.
    "train": ["matplotlib", "optuna", "tensorflow-serving-api~=2.21.0", "tensorflow~=2.21.0"],
    "serve": [
        "fastapi",
        "fastapi-swagger",
        "grpcio",
        "grpcio-health-checking",
        "orjson",
        "prometheus-client",
        "python-multipart",
        "starlette",
        "tensorflow-serving-api~=2.21.0",
        "uvicorn",
    ],
    # What MLflow's server needs for logins and for PostgreSQL; it runs in the image of `data`.
    "tracking": ["flask-wtf", "psycopg2-binary"],
    "ui": ["streamlit"],
    "pipeline": ["docker", "jinja2", "kfp==2.17.3", "kfp-kubernetes==2.17.3", "markdown-it-py", "mlflow~=3.17.0"],
    "dev": [
        "flask-cors",
        "httpx",
        "hypothesis",
        "jax",
        "kubernetes-validate",
        "moto[s3]",
        "mypy",
        "ovmsclient",
        "pandas-stubs",
        "playwright",
        "pytest",
        "pytest-xdist",
        "ruff",
        "schemathesis",
        "scikit-learn",
        "simpleitk",
        "surface-distance",
        "types-PyYAML",
        "types-grpcio",
        "types-protobuf",
    ],
}
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
# Beside the others, in a lock of its own: NVIDIA's libraries, which are of use on a machine with its driver alone.
EXTRAS["cuda"] = ["nvidia-ml-py", "tensorflow[and-cuda]~=2.21.0"]

setup(
    name="metseg",
    version="0.2.0",
    description="Train, judge, register, promote and serve segmentation models for brain metastases in MRI",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    author="The metseg authors",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["metseg*", "models*", "components*", "pipelines*"]),
    package_data={
        "pipelines": ["compiled/*.yaml"],
        "metseg.report": ["*.html.j2"],
        "metseg.validation": ["*.html.j2", "*.css"],
        "metseg.serving.gateway": ["*.png"],
        "metseg.serving.viewer": ["*.css", "*.js", ".streamlit/config.toml"],
    },
    install_requires=["filelock", "numpy", "psutil", "pydantic", "pydantic-settings", "rich", "typer"],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["metseg=metseg.cli:main"]},
)
