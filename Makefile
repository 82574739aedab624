# Makefile for idem: make && make install && make installcheck
#
# Another PostgreSQL: make PG_CONFIG=/path/to/pg_config
# installcheck needs a running server with idem installed, and for the TAP tests IPC::Run
# and an ordinary user; without them: make installcheck TAP_TESTS=
# script/test needs none of that.

MODULE_big = idem
OBJS = \
	idem.o \
	src/arg.o \
	src/attempt.o \
	src/bucket.o \
	src/bucket_wait.o \
	src/claim.o \
	src/claim_batch.o \
	src/claim_call.o \
	src/claim_row.o \
	src/claim_take.o \
	src/definition.o \
	src/digest.o \
	src/distribute.o \
	src/expire.o \
	src/key_time.o \
	src/keytext.o \
	src/invalidate.o \
	src/keyvalue.o \
	src/lock.o \
	src/machine.o \
	src/machine_graph.o \
	src/machine_reach.o \
	src/newer.o \
	src/nowait.o \
	src/owner.o \
	src/plan.o \
	src/plan_run.o \
	src/policy.o \
	src/purge.o \
	src/reassign.o \
	src/result.o \
	src/row.o \
	src/row_insert.o \
	src/rowspec.o \
	src/sort.o \
	src/stat.o \
	src/stat_count.o \
	src/stat_view.o \
	src/state.o \
	src/statements.o \
	src/stock.o \
	src/stock_hold.o \
	src/stock_order.o \
	src/stock_quantity.o \
	src/store.o \
	src/store_batch.o \
	src/store_blocks.o \
	src/store_direct.o \
	src/store_guard.o \
	src/store_range.o \
	src/store_sql.o \
	src/subxact.o \
	src/target.o \
	src/target_cache.o \
	src/target_sql.o \
	src/token.o \
	src/tokentext.o \
	src/unsettled.o \
	src/trigger.o \
	src/version.o

EXTENSION = idem
DATA = $(wildcard idem--*.sql)
PGFILEDESC = "idem - idempotent operations inside the caller's transaction"

REGRESS = $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))
REGRESS_OPTS = --load-extension=idem
ISOLATION = $(sort $(patsubst specs/%.spec,%,$(wildcard specs/*.spec)))
ISOLATION_OPTS = --load-extension=idem
TAP_TESTS = 1

# every SQL-callable function has parameters it does not read
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

$(OBJS) $(OBJS:.o=.bc): $(wildcard src/*.h)
