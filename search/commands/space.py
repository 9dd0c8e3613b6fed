"""The command `space`: what a named space chooses from."""

from search.terminal import output
from space.choices import choices, to_toml
from space.spaces import search_space


def space(name: str, size: int, as_toml: bool, as_json: bool) -> None:
    """Print a space's parameters and their values, or the table of TOML that states it."""
    found = choices(name)
    if as_toml:
        print(to_toml(name, found))
        return
    built = search_space(name, size=size)
    if as_json:
        output.print_json(
            {"space": name, "size": size, "choices": built.choices, "fixed": built.fixed}
        )
        return
    out = output.console()
    out.print(f"{name}: {built.description}; at {size} pixels", soft_wrap=True)
    made = output.rows_table("parameter", "values")
    fixed = {parameter: (value,) for parameter, value in built.fixed.items()}
    for parameter, values in {**built.choices, **fixed}.items():
        made.add_row(parameter, ", ".join(map(str, values)))
    out.print(made)
