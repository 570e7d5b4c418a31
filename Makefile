# make book       execute every notebook and build the book
# make quick      lint, and the tests that take little, of every part: within a minute
# make test       lint, then unit, then site
# make unit       the package and the notebooks as stored
# make faults     thousands of damaged files, bad servers, killed processes: what each kind did
# make site       build the book, and look at its pages in a browser
# make serve      build the book and open it in a browser, on this machine only
# make pdf        build the book, and print it into one file, _build/html/cnnbook.pdf
# make epub       build the book, and make one file for e-readers of it, _build/html/cnnbook.epub
# make sphinx     the same pages by Sphinx without Jupyter Book, into _build/sphinx/html
# make lint       ruff, mypy, and no outputs in notebooks
# make format     mend what lint complains of
# make linkcheck  ask every other host that a page links to whether the page is there
# make clean      remove everything these targets made
# Another Python: make PYTHON=python3.12 book

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

# Threads that wait for work must not spin: with two training processes on two cores, spinning
# makes each of them slower by more than ten times.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: book quick quick-tests test unit faults site serve pdf epub sphinx lint format linkcheck constraints clean

book: $(READY)
	$(BIN)/python tools/book.py build

# At once, as mypy has use for one core only.
quick: $(READY)
	$(MAKE) --jobs=2 --output-sync=target lint quick-tests

quick-tests: $(READY)
	$(BIN)/python -m pytest -n logical -m "not book and not slow"

test: lint unit site

unit: $(READY)
	$(BIN)/python -m pytest -n logical --dist worksteal -m "not book"

faults: $(READY)
	CNNBOOK_FAULTS=full $(BIN)/python -m pytest -n logical --dist worksteal tests/faults

site: book
	$(BIN)/python -m pytest -n logical --dist worksteal -m book

serve: book
	$(BIN)/python tools/book.py serve

pdf: book
	$(BIN)/python tools/make_pdf.py

epub: book
	$(BIN)/python tools/make_epub.py

# The way out of Jupyter Book 1.x, kept open: see CONTRIBUTING.md.
sphinx: book
	$(BIN)/python tools/plain_sphinx.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	git ls-files -z '*.ipynb' | xargs -0 $(BIN)/nbstripout --verify

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	find chapters -name '*.ipynb' -exec $(BIN)/nbstripout {} +

# Needs the internet, and fails when another host does: not part of `make test`.
linkcheck: book
	$(BIN)/jupyter-book build . --builder linkcheck

# The stamp is touched last: an interrupted installation starts again. Nothing is installed whose
# bytes are not those that lock.txt names: not hatchling, which installs the package, nor what builds
# the packages that publish no wheel, which pip would fetch without looking at checksums.
$(READY): pyproject.toml lock.txt .ci/build.txt
	$(PYTHON) tools/check_machine.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r .ci/build.txt
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes --no-build-isolation \
	  -r lock.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# Move to the newest versions that fit together; torch and torchvision stay where pins.txt says.
# lock.txt has the same versions with the checksums of their files, for what installs everything;
# constraints.txt is for what takes a part. .ci/build.txt builds those without a wheel, and
# .github/release.txt builds and uploads a release.
constraints:
	uv pip compile pyproject.toml --extra book --extra dev --universal --python-version 3.10 \
	  -c pins.txt --no-annotate --upgrade -o constraints.txt \
	  --custom-compile-command "make constraints"
	uv pip compile constraints.txt --universal --python-version 3.10 --no-deps --no-annotate \
	  --generate-hashes --upgrade -o lock.txt --custom-compile-command "make constraints"
	printf 'setuptools\nwheel\n' | uv pip compile - -c constraints.txt --universal \
	  --python-version 3.10 --no-annotate --generate-hashes -o .ci/build.txt \
	  --custom-compile-command "make constraints"
	printf 'build\ntwine\nhatchling\n' | uv pip compile - --universal --python-version 3.11 \
	  --no-annotate --generate-hashes --upgrade -o .github/release.txt \
	  --custom-compile-command "make constraints"

clean:
	rm -rf .venv _build
