#!/bin/sh
# Steps of the stages of the Dockerfile: install.sh packages | code SOURCE | protocol
set -eu

compile() { # By hashes: not every builder keeps the times of files, and a start must not compile again.
  /opt/metseg/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash "$@"
}

case $1 in
  packages)
    python3 -m venv --without-pip /opt/metseg
    uv pip install --quiet --no-cache --link-mode copy --python /opt/metseg/bin/python --no-deps --require-hashes \
      --build-constraint /build/requirements-build.lock -r /build/requirements.lock
    site=$(/opt/metseg/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo /opt/metseg/code > "$site/metseg.pth"
    mkdir /opt/metseg/code
    # Remove files that no program reads: tests and headers. numpy.testing reads from NumPy's tests.
    find "$site" -type d \( -name tests -o -name include \) -not -path '*/numpy/*' -prune -exec rm -rf {} +
    find "$site" -type f \( -name '*.h' -o -name '*.hpp' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.a' \) -delete
    compile "$site"
    ;;
  code)
    pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir /build/wheels "$2"
    python3 -m venv --without-pip /opt/metseg
    uv pip install --quiet --no-cache --python /opt/metseg/bin/python --target /opt/metseg/code --no-deps --no-index \
      /build/wheels/*.whl
    compile /opt/metseg/code
    ;;
  protocol)
    site=$(/opt/metseg/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    mkdir -p /opt/protocol
    cd "$site"
    find tensorflow tensorflow_serving -name '*_pb2.py' -o -name '*_pb2_grpc.py' | tar -c -T - | tar -x -C /opt/protocol
    compile /opt/protocol
    ;;
esac
