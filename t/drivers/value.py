# What the Python programs share: the lines of t/148_drivers.pl, and its values as Python has them.
import datetime
import decimal
import re
import sys
import uuid


def native(kind, text):
    if kind in ("int", "bigint"):
        return int(text)
    if kind == "numeric":
        return decimal.Decimal(text)
    if kind == "bool":
        return text == "true"
    if kind == "uuid":
        return uuid.UUID(text)
    if kind == "time":
        return datetime.datetime.fromisoformat(text)
    if kind == "interval":
        number, unit = text.split()
        return datetime.timedelta(**{unit: int(number)})
    if kind in ("texts", "ints", "numerics"):
        return [native(kind[:-1], part) for part in text.split(",")]
    return text


def percent(sql):
    return re.sub(r"\$\d+", "%s", sql)


def shown(cell):
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(cell)


# A line in is MODE, SQL, and KIND and VALUE of each parameter, with tabs between; a line out is what came of it
def serve(version, native, call, sqlstate):
    print("version", version, sep="\t", flush=True)
    for line in sys.stdin:
        mode, sql, *rest = line.rstrip("\n").split("\t")
        try:
            rows = call(mode, sql, [native(kind, text) for kind, text in zip(rest[::2], rest[1::2])])
            print("ok", "/".join(",".join(map(shown, row)) for row in rows), sep="\t", flush=True)
        except Exception as e:
            print("error", sqlstate(e) or "client", " ".join(str(e).split()), sep="\t", flush=True)
