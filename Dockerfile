# syntax=docker/dockerfile:1.7
#
#   docker build --target antiphon --tag antiphon:0.1.0 .     any agent's base: see what `antiphon new` writes
#   docker build --target demo --tag antiphon-demo:0.1.0 .    the agents of examples/2-dependency-intake
#
# What runs is not root, needs no file system that it can write to but /tmp, and has no shell around it:
# `antiphon` is process 1, and drains on SIGTERM.

FROM python:3.12.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
RUN python -m venv /opt/antiphon && python -m venv /opt/build
COPY requirements/image.txt requirements/build.txt /source/requirements/
RUN /opt/antiphon/bin/pip install --no-deps --require-hashes --requirement /source/requirements/image.txt \
 && /opt/build/bin/pip install --no-deps --require-hashes --requirement /source/requirements/build.txt
COPY . /source
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels /source \
 && /opt/antiphon/bin/pip install --no-deps /wheels/*.whl \
 && /opt/antiphon/bin/pip check
# What is in it, and under which licences: for whoever has to answer that.
RUN mkdir -p /opt/antiphon/share/antiphon \
 && /opt/build/bin/cyclonedx-py environment --output-format JSON \
      --output-file /opt/antiphon/share/antiphon/sbom.cdx.json /opt/antiphon/bin/python \
 && /opt/antiphon/bin/python /source/deploy/image/licences.py /opt/antiphon/share/antiphon/sbom.cdx.json \
      > /opt/antiphon/share/antiphon/licences.txt

FROM build AS build-demo
COPY requirements/demo.txt /source/requirements/
RUN /opt/antiphon/bin/pip install --no-deps --require-hashes --requirement /source/requirements/demo.txt

FROM python:3.12.12-slim-bookworm AS runtime
RUN groupadd --gid 10001 antiphon && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp antiphon \
 && install -d -o 10001 -g 10001 /app /var/lib/antiphon
ENV PATH=/opt/antiphon/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ANTIPHON_METRICS_PORT=9464 \
    ANTIPHON_METRICS_HOST=0.0.0.0
WORKDIR /app
USER 10001:10001
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + os.environ['ANTIPHON_METRICS_PORT'] + '/readyz', timeout=2)"]
ENTRYPOINT ["antiphon"]
CMD ["--help"]

FROM runtime AS demo
COPY --from=build-demo /opt/antiphon /opt/antiphon
COPY examples/2-dependency-intake /app

FROM runtime AS antiphon
COPY --from=build /opt/antiphon /opt/antiphon
