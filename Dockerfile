# PostgreSQL with idem, on the official image:
#
#   docker build --build-arg PG_MAJOR=18 -t idem .
#   docker run --rm -e POSTGRES_PASSWORD=secret -p 5432:5432 idem
#
# A new database of it has the extension; in one that was there before, run CREATE EXTENSION idem.
ARG PG_MAJOR=18

FROM postgres:${PG_MAJOR} AS build
ARG PG_MAJOR
RUN apt-get update && apt-get install -y --no-install-recommends make gcc libc6-dev "postgresql-server-dev-${PG_MAJOR}"
COPY Makefile idem.c idem.control idem--*.sql /src/
COPY src /src/src
# bitcode serves only JIT inlining
RUN make -C /src with_llvm=no && make -C /src with_llvm=no install DESTDIR=/out

FROM postgres:${PG_MAJOR}
COPY --from=build /out /
RUN echo 'CREATE EXTENSION idem;' > /docker-entrypoint-initdb.d/idem.sql
