# make demo   an aiohttp application on four socket-activated instances behind nginx, here and now
# make test   everything that is claimed, proved: linters, units, real systemd in containers
# make deb    the Debian packages, in build/deb: built by root in a Debian 13 of their own, on any Debian from 12 on
# make bench  aiosystemd beside what a user would pick instead; ARGS=throughput measures that part alone
#
# All set up what they need: Debian packages when run by root, and a virtual environment in .venv.

PYTHON ?= python3
BIN := .venv/bin

BUILD := python3-venv python3-dev gcc libc6-dev pkgconf libsystemd-dev
DEMO := nginx-light openssl systemd
TEST := git strace mmdebstrap systemd-container debian-archive-keyring man-db groff-base piuparts runit haproxy

DEB := git mmdebstrap debian-archive-keyring

.PHONY: demo test deb bench clean

demo: .venv/ready
	@$(call packages,$(DEMO),warn)
	@echo '--- the files'
	@$(BIN)/aiosystemd generate units/example.toml --output build/demo
	@echo '--- the checkers'
	@$(BIN)/aiosystemd check units/example.toml
	@echo '--- the site'
	@if [ -t 0 ] && [ -t 1 ]; then exec $(BIN)/aiosystemd up units/example.toml; \
	 else exec $(BIN)/aiosystemd up units/example.toml --try; fi

test: .venv/ready
	@$(call packages,$(DEMO) $(TEST),warn)
	$(BIN)/pytest $(or $(ARGS),--numprocesses=2 --dist=loadfile --no-loadscope-reorder --timeout=1200 --cov --cov-report=term)

deb:
	@$(call packages,$(DEB),stop)
	@rm -rf build/deb
	@$(PYTHON) -m tests.container.debs build/deb

bench: .venv/ready
	@$(call packages,$(TEST),stop)
	$(BIN)/python -m benchmarks.run $(ARGS)

.venv/ready: pyproject.toml tests/requirements.txt
	@$(call packages,$(BUILD),stop)
	@echo 'virtual environment in .venv'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --upgrade pip
	@$(BIN)/pip install --quiet --upgrade --requirement tests/requirements.txt --editable '.[serve,uvloop]'
	@touch $@

clean:
	rm -rf .venv build .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# $(call packages,NAMES,warn|stop): root gets them installed, anyone else is told which are missing.
define packages
missing=''; for name in $(1); do \
  dpkg-query --show --showformat='$${Status}' $$name 2>/dev/null | grep -q '^install ok' || missing="$$missing $$name"; \
done; \
if [ -z "$$missing" ]; then :; \
elif [ "$$(id -u)" = 0 ]; then \
  echo "installing Debian packages:$$missing"; \
  mkdir -p build && { apt-get update -qq && \
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing; } >build/apt.log 2>&1 \
    || { cat build/apt.log; exit 1; }; \
else \
  echo "missing Debian packages, install them with: sudo apt-get install$$missing"; [ $(2) = warn ]; \
fi
endef
