# The only makefile. `make help` lists the targets.

CC       ?= cc
SAN      ?=
DEBUG    ?=
ROCKSDB  ?= 1
export ROCKSDB
WERROR   ?= 1
PREFIX   ?= /usr/local
DESTDIR  ?=
FUZZ_SECONDS ?= 60

# SAN= and DEBUG= choose the variant, so that builds never mix.
comma   := ,
variant := $(if $(SAN),-$(subst $(comma),-,$(SAN)))$(if $(DEBUG),-debug)
BUILD   ?= build$(variant)

VERSION := 0.1.0

# One short line per step; V=1 shows the commands.
V ?=
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' '$(1)' '$(2)')

pkgs := libuv lmdb libsodium jansson libxxhash libsystemd openssl
H2O_CFLAGS := $(shell pkg-config --cflags libh2o-evloop 2>/dev/null)
H2O_LIBS   := $(shell pkg-config --libs libh2o-evloop 2>/dev/null || echo -lh2o-evloop)

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion \
            -Wno-sign-conversion -Wformat=2 -Wundef -Wvla -Wwrite-strings \
            $(if $(filter 1,$(WERROR)),-Werror)
OPTIMISE := $(if $(DEBUG),-O0,-O2) -g
HARDEN   := -fstack-protector-strong -fPIE -fno-strict-aliasing -fno-plt \
            $(if $(SAN)$(DEBUG),,-D_FORTIFY_SOURCE=2) -fstack-clash-protection -fcf-protection
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer \
            $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=all))

# Not linked but loaded, by the name that the headers are of.
ROCKSDB_LIBRARY := $(if $(filter 1,$(ROCKSDB)),librocksdb.so.$(shell pkg-config --modversion rocksdb 2>/dev/null | cut -d. -f1,2))
export ROCKSDB_LIBRARY
ROCKSDB_NAME := $(if $(ROCKSDB_LIBRARY),-DMS_ROCKSDB_LIBRARY='"$(ROCKSDB_LIBRARY)"')

CPPFLAGS += -I. -D_GNU_SOURCE -DMS_ROCKSDB=$(ROCKSDB) $(ROCKSDB_NAME) -DMS_VERSION='"$(VERSION)"' $(if $(SAN),-DMS_SANITIZED=1)
CFLAGS   += -std=gnu17 $(OPTIMISE) $(WARNINGS) $(HARDEN) $(SANFLAGS)
LDFLAGS  += -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(SANFLAGS)

LIBS_common    := -llmdb -lxxhash -linih -lpthread
LIBS_supervisor := -luv -lsystemd -ljansson
LIBS_raftd     := -luv -lsodium -lxxhash
LIBS_storaged  := -luv -llmdb -lxxhash -lpthread
LIBS_apid      := $(H2O_LIBS) -lssl -lcrypto -ljansson -llmdb
LIBS_all       := $(LIBS_supervisor) $(LIBS_raftd) $(LIBS_apid) $(LIBS_storaged) $(LIBS_common)

ROOMS := supervisor raftd apid storaged common
# ROCKSDB=0: without the files that need the library.
without_rocks = $(if $(filter 1,$(ROCKSDB)),$(1),$(foreach file,$(1),$(if $(filter rocks%,$(notdir $(file))),,$(file))))
src_of = $(call without_rocks,$(sort $(wildcard $(1)/*.c) $(wildcard $(1)/core/*.c)))
obj_of = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

# With and without RocksDB go into one folder: changing it makes every object anew.
VARIANT := $(BUILD)/rocksdb
$(shell mkdir -p $(BUILD) && { echo '$(ROCKSDB)' | cmp -s - $(VARIANT) || echo '$(ROCKSDB)' > $(VARIANT); })

SRC  := $(foreach room,$(ROOMS),$(call src_of,$(room)))
OBJ  := $(call obj_of,$(SRC))
$(foreach room,$(ROOMS),$(eval OBJ_$(room) := $(call obj_of,$(call src_of,$(room)))))
# What tests of a room link: everything of it but its main.
$(foreach room,$(ROOMS),$(eval LIBOBJ_$(room) := $(filter-out $(BUILD)/obj/$(room)/main.o,$(OBJ_$(room)))))

.DEFAULT_GOAL := all
.SECONDARY:
.PHONY: all help
all: $(BUILD)/metastore $(BUILD)/metastorectl $(BUILD)/compile_commands.json

$(BUILD)/metastore: $(OBJ)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_all)

$(BUILD)/metastorectl: $(BUILD)/metastore
	$(Q)ln -sf metastore $@

$(BUILD)/obj/apid/%.o: CPPFLAGS += $(H2O_CFLAGS)

$(BUILD)/obj/%.o: %.c $(VARIANT)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# ---- tests -----------------------------------------------------------------------------------

TSAN := $(filter thread,$(SAN))
# Criterion's runner cannot start under the thread sanitizer. There the program and the drivers with
# a main of their own are instrumented, and test binaries built without it (in PLAIN) run them.
PLAIN := $(if $(TSAN),build,$(BUILD))

# tests/unit/<room>/<module>_test.c: one Criterion binary each, linked with that room and common/.
UNIT_SRC := $(call without_rocks,$(sort $(wildcard tests/unit/*/*_test.c)))
UNIT_BIN := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(UNIT_SRC))
# tests/system/<what>_test.c: Criterion binaries that run the real program ($MS_BINARY).
SYSTEM_SRC := $(sort $(wildcard tests/system/*_test.c))
SYSTEM_BIN := $(patsubst tests/system/%.c,$(BUILD)/tests/system/%,$(SYSTEM_SRC))
# Stand-alone drivers with a main.
STRESS_BIN := $(patsubst tests/stress/%.c,$(BUILD)/tests/stress/%,$(sort $(wildcard tests/stress/*.c)))
BENCH_BIN  := $(patsubst tests/bench/%.c,$(BUILD)/tests/bench/%,$(sort $(wildcard tests/bench/*.c)))
SUPPORT_OBJ := $(call obj_of,$(sort $(wildcard tests/support/*.c)))
CONFORMANCE_OBJ := $(call obj_of,$(sort $(wildcard tests/conformance/*.c)))
# tests/crash: one node whose workers die, and a cluster in which everything may.
CRASH_SHARED_OBJ := $(call obj_of,tests/crash/connection.c)
CLUSTER_TEST_OBJ := $(CRASH_SHARED_OBJ) $(call obj_of,$(sort $(wildcard tests/crash/cluster_*.c)) tests/crash/history.c)
CRASH_OBJ := $(filter-out $(CLUSTER_TEST_OBJ),$(call obj_of,$(sort $(wildcard tests/crash/*.c)))) $(CRASH_SHARED_OBJ)
LIBS_system := -lcriterion -lcurl -ljansson -lsystemd -lssl -lcrypto

# Everything but the program's main, for what links across rooms.
$(BUILD)/libmetastore.a: $(filter-out $(BUILD)/obj/supervisor/main.o,$(OBJ))
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

# Other files in such a folder are helpers, linked into each of its tests.
unit_helpers = $(call obj_of,$(filter-out %_test.c,$(sort $(wildcard tests/unit/$(1)/*.c))))

define unit_rule
$(BUILD)/tests/unit/$(1)/%: $(BUILD)/obj/tests/unit/$(1)/%.o $$(call unit_helpers,$(1)) $$(LIBOBJ_$(1)) \
                            $(if $(filter common,$(1)),,$$(LIBOBJ_common))
	@mkdir -p $$(@D)
	$$(call say,LD,$$@)
	$$(Q)$$(CC) $$(LDFLAGS) -o $$@ $$^ -lcriterion $$(LIBS_$(1)) $$(LIBS_common)
endef
$(foreach room,$(ROOMS),$(eval $(call unit_rule,$(room))))

$(BUILD)/tests/system/%: $(BUILD)/obj/tests/system/%.o $(SUPPORT_OBJ) $(LIBOBJ_common)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_system) $(LIBS_common)

$(BUILD)/tests/stress/%: $(BUILD)/obj/tests/stress/%.o $(BUILD)/libmetastore.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_all)

$(BUILD)/tests/bench/%: $(BUILD)/obj/tests/bench/%.o $(BUILD)/libmetastore.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_all)

$(BUILD)/obj/tests/bench/%.o: CPPFLAGS += $(H2O_CFLAGS)

# The checker of histories: part of the simulation and of the cluster test, with tests of its own.
LIN_OBJ := $(call obj_of,$(filter-out %_test.c,$(sort $(wildcard tests/sim/linearizability*.c))))
LIN_TEST := $(patsubst tests/%.c,$(BUILD)/tests/%,$(sort $(wildcard tests/sim/linearizability*_test.c)))

$(BUILD)/tests/sim/%: $(BUILD)/obj/tests/sim/%.o $(LIN_OBJ) $(LIBOBJ_common)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lcriterion $(LIBS_common)

$(BUILD)/cluster-test: $(CLUSTER_TEST_OBJ) $(LIN_OBJ) $(SUPPORT_OBJ) $(LIBOBJ_common)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lcurl -ljansson $(LIBS_common)

$(BUILD)/crash-test: $(CRASH_OBJ) $(SUPPORT_OBJ) $(LIBOBJ_common)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lcurl -ljansson $(LIBS_common)

$(BUILD)/raft-conformance: $(CONFORMANCE_OBJ) $(filter $(BUILD)/obj/raftd/core/%,$(OBJ_raftd)) \
                           $(LIBOBJ_common)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_common)

# Whole clusters of the core with simulated disks, clocks and network.
SIM_OBJ := $(call obj_of,$(filter-out %_test.c,$(sort $(wildcard tests/sim/*.c))))

$(BUILD)/sim: $(SIM_OBJ) $(filter $(BUILD)/obj/raftd/core/%,$(OBJ_raftd)) $(LIBOBJ_common)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_common)

# The variables that tests read. Sanitizer reports go to files, because a test that forks can pass
# although its child complained; any file left there fails the run. Tests send crash signals to
# workers, which must die of them as they would without a sanitizer.
REPORTS := $(BUILD)/reports
export MS_BINARY = $(abspath $(BUILD)/metastore)
export MS_CTL = $(abspath $(BUILD)/metastorectl)
export ASAN_OPTIONS = log_path=$(abspath $(REPORTS))/asan:exitcode=70:handle_segv=0:handle_sigbus=0:handle_abort=0:detect_stack_use_after_return=1
export UBSAN_OPTIONS = log_path=$(abspath $(REPORTS))/ubsan:print_stacktrace=1
export TSAN_OPTIONS = log_path=$(abspath $(REPORTS))/tsan:second_deadlock_stack=1:suppressions=$(abspath tests/tsan.supp)
export LSAN_OPTIONS = suppressions=$(abspath tests/lsan.supp):print_suppressions=0

CRASH_SECONDS ?= 20
SIM_SEEDS ?= $(if $(SAN),300,2000)
SOAK_SECONDS ?= 3600
SHARED ?= ../shared

.PHONY: test tests test-run deps run crash bench fuzz lint check format install deb clean

deps:
	@deploy/install-deps.sh

# The library flags are known only after the packages are there: hence the second reading.
run: deps
	@$(MAKE) --no-print-directory all
	@exec $(BUILD)/metastore

test: deps
	@$(MAKE) --no-print-directory test-run

ifdef TSAN
tests: $(BUILD)/metastore $(BUILD)/metastorectl $(STRESS_BIN)
	@$(MAKE) --no-print-directory SAN= BUILD=$(PLAIN) tests
else
tests: all $(UNIT_BIN) $(LIN_TEST) $(SYSTEM_BIN) $(STRESS_BIN) $(BUILD)/raft-conformance $(BUILD)/sim $(BUILD)/crash-test $(BUILD)/cluster-test
endif

test-run: tests
	@rm -rf $(REPORTS) && mkdir -p $(REPORTS)
	@tests/run.sh --reports $(REPORTS) \
	    $(if $(SAN),,--step "check" "$(MAKE) --no-print-directory check") \
	    $(if $(TSAN),,--step "raft conformance" "$(BUILD)/raft-conformance tests/data/raft $(wildcard $(SHARED)/raft-conformance)") \
	    $(if $(TSAN),,--step "simulation" "tests/sim/run.sh $(BUILD)/sim --seeds $(SIM_SEEDS)") \
	    $(if $(SAN),,--step "mutations" "$(MAKE) --no-print-directory mutations") \
	    $(foreach driver,$(STRESS_BIN),--step "$(notdir $(driver))" "$(driver)") \
	    --step "crash test" "$(PLAIN)/crash-test --seconds $(CRASH_SECONDS)" \
	    $(if $(SAN),,--step "cluster test" "$(BUILD)/cluster-test --nodes 3 --seconds $(CRASH_SECONDS)") \
	    $(if $(TSAN),$(patsubst $(BUILD)/%,$(PLAIN)/%,$(SYSTEM_BIN)),$(UNIT_BIN) $(LIN_TEST) $(SYSTEM_BIN))

crash: tests
	@$(PLAIN)/crash-test --seconds 60
	@$(PLAIN)/cluster-test --nodes 3 --seconds 60
	@$(PLAIN)/cluster-test --nodes 5 --seconds 60

# Simulated clusters, one seed after the other, on all cores.
.PHONY: soak
soak: $(BUILD)/sim
	@tests/sim/run.sh $(BUILD)/sim --seconds $(SOAK_SECONDS)

# Breaks the core in one place after the other: the simulation must notice each time.
MUTATION_SEEDS ?= 2000
mutation_run = tests/sim/mutations/run.sh --cc "$(CC) $(CPPFLAGS) $(CFLAGS)" --link "$(CC) $(LDFLAGS)" \
               --libs "$(LIBS_common)" --seeds $(MUTATION_SEEDS)
mutation_objects = $(SIM_OBJ) $(filter $(BUILD)/obj/raftd/core/%,$(OBJ_raftd)) $(LIBOBJ_common)

.PHONY: mutations
mutations: $(BUILD)/sim
	@$(mutation_run) $(mutation_objects)

bench: deps
	@MS_DEPS=all deploy/install-deps.sh
	@$(MAKE) --no-print-directory all $(BENCH_BIN)
	@tests/bench/bench.sh $(BUILD)

# ---- fuzzing ---------------------------------------------------------------------------------

FUZZ_BUILD := $(BUILD)-fuzz
FUZZ_SRC := $(sort $(wildcard tests/fuzz/*_fuzz.c))
FUZZ_BIN := $(patsubst tests/fuzz/%.c,$(FUZZ_BUILD)/%,$(FUZZ_SRC))
FUZZ_OBJ := $(patsubst %.c,$(FUZZ_BUILD)/obj/%.o,$(filter-out supervisor/main.c,$(SRC)))
FUZZ_FLAGS := -std=gnu17 -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all

$(FUZZ_BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)clang $(CPPFLAGS) $(H2O_CFLAGS) $(FUZZ_FLAGS) -MMD -MP -c -o $@ $<
$(FUZZ_BUILD)/libmetastore.a: $(FUZZ_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(FUZZ_BUILD)/%_fuzz: $(FUZZ_BUILD)/obj/tests/fuzz/%_fuzz.o $(FUZZ_BUILD)/libmetastore.a
	$(call say,LD,$@)
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS_all)

fuzz:
	@MS_DEPS=all deploy/install-deps.sh
	@$(MAKE) --no-print-directory fuzz-run

.PHONY: fuzz-run
fuzz-run: $(FUZZ_BIN)
	@tests/fuzz/run.sh $(FUZZ_SECONDS) $(FUZZ_BUILD) $(FUZZ_BIN)

# ---- checks ----------------------------------------------------------------------------------

C_FILES := $(sort $(wildcard */*.c */*.h */*/*.c */*/*.h */*/*/*.c))
C_FILES := $(filter-out build%,$(C_FILES))

$(BUILD)/compile_commands.json: Makefile $(SRC)
	@mkdir -p $(@D)
	@{ echo '['; sep=''; for f in $(SRC) $(UNIT_SRC) $(SYSTEM_SRC); do \
	    printf '%s{"directory":"%s","file":"%s","command":"%s"}\n' "$$sep" '$(CURDIR)' "$$f" \
	        '$(CC) $(subst ",\",$(filter-out -DMS_VERSION=% -DMS_ROCKSDB_LIBRARY=%,$(CPPFLAGS))) $(if $(ROCKSDB_LIBRARY),-DMS_ROCKSDB_LIBRARY=\\\"$(ROCKSDB_LIBRARY)\\\") -DMS_VERSION=\\\"$(VERSION)\\\" -std=gnu17 -c '"$$f"; \
	    sep=','; done; echo ']'; } > $@

# Who may include whom, headers that compile alone, and what the core may call.
check: $(BUILD)/libmetastore.a
	@tests/check.sh $(BUILD) "$(CC) $(CPPFLAGS) $(H2O_CFLAGS) -std=gnu17 -Wall -Wextra -Werror"

lint: $(BUILD)/compile_commands.json
	@MS_DEPS=all deploy/install-deps.sh
	@clang-format --dry-run -Werror $(C_FILES) && echo "clang-format: clean"
	@cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 -I. -D_GNU_SOURCE \
	    --enable=warning,portability --suppressions-list=tests/cppcheck.supp \
	    --library=posix -j2 $(ROOMS) && echo "cppcheck: clean"
	@clang-tidy --quiet -p $(BUILD) --warnings-as-errors='*' $(SRC) 2>&1 | \
	    { grep -v 'warnings\? generated\|Suppressed\|Use -header-filter' || true; } | tee $(BUILD)/tidy.log
	@! grep -q 'error:' $(BUILD)/tidy.log && echo "clang-tidy: clean"

format:
	clang-format -i $(C_FILES)

# ---- installation ----------------------------------------------------------------------------

UNITDIR ?= /lib/systemd/system

install: all
	install -D -m 755 $(BUILD)/metastore $(DESTDIR)$(PREFIX)/bin/metastore
	ln -sf metastore $(DESTDIR)$(PREFIX)/bin/metastorectl
	install -D -m 644 deploy/metastore.ini $(DESTDIR)/etc/metastore/metastore.ini
	install -d $(DESTDIR)$(UNITDIR)
	sed 's|@BINDIR@|$(PREFIX)/bin|g' deploy/metastore.service > $(DESTDIR)$(UNITDIR)/metastore.service
	install -m 644 deploy/metastore.socket $(DESTDIR)$(UNITDIR)/metastore.socket

DEB := $(BUILD)/metastore_$(VERSION)_$(shell dpkg --print-architecture 2>/dev/null).deb

deb: all
	@rm -rf $(BUILD)/deb
	@$(MAKE) --no-print-directory install DESTDIR=$(BUILD)/deb PREFIX=/usr
	@deploy/make-deb.sh $(BUILD)/deb $(VERSION) $(DEB)

clean:
	rm -rf build build-*

help:
	@echo "make            build $(BUILD)/metastore and $(BUILD)/metastorectl"
	@echo "make run        install what is missing, build, start one node in the foreground"
	@echo "make test       the same, then every test (SAN=address,undefined or SAN=thread: under sanitizers)"
	@echo "make crash      60 s each of killing workers, and clusters of 3 and 5 nodes, under load"
	@echo "make soak       simulated clusters for SOAK_SECONDS ($(SOAK_SECONDS)), on all cores"
	@echo "make mutations  breaks the core in one place after the other: the simulation must notice"
	@echo "make bench      side by side with etcd; table, $(BUILD)/bench.json, picture"
	@echo "make fuzz       every fuzz target for FUZZ_SECONDS ($(FUZZ_SECONDS))"
	@echo "make check lint format install deb clean"

-include $(shell find $(BUILD) $(FUZZ_BUILD) -name '*.d' 2>/dev/null)
