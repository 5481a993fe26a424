"""Functions that tamper with files of a store."""

SECRET = 7.0  # Value in files outside the store, which must never be read.


def replaced(name, data=None, **options):
    def tamper(file, _outside):
        del file[name]
        file.create_dataset(name, data=data, **options)

    return tamper


def linked(name, link):
    def tamper(file, outside):
        del file[name]
        file[name] = link(outside)

    return tamper


def cell(column, row, value):
    def tamper(file, _outside):
        table = file["utterances"][()]
        table[column][row] = value
        file["utterances"][...] = table

    return tamper


def attribute(name, value):
    def tamper(file, _outside):
        file.attrs[name] = value

    return tamper


def no_attribute(name):
    def tamper(file, _outside):
        del file.attrs[name]

    return tamper


def a_table_without(column):
    def tamper(file, _outside):
        table = file["utterances"][()]
        del file["utterances"]
        file["utterances"] = table[[name for name in table.dtype.names if name != column]].copy()

    return tamper
