# The service with its libraries, run as a user of its own. Built and started by docker-compose.yml.
FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY ledger ledger
COPY ledger_client ledger_client
COPY projections projections
RUN python -m venv /opt/status-ledger && /opt/status-ledger/bin/pip install --no-cache-dir .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/status-ledger --create-home ledger
COPY --from=build /opt/status-ledger /opt/status-ledger
ENV PATH=/opt/status-ledger/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LEDGER_HOST=0.0.0.0 \
    LEDGER_DATA_DIR=/var/lib/status-ledger
# ledger.toml is looked for in the working directory.
WORKDIR /etc/status-ledger
VOLUME /var/lib/status-ledger
USER ledger
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
ENTRYPOINT ["status-ledger"]
CMD ["serve"]
