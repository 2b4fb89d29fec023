"""Modules of a person's own, of the same name in several folders."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from qanas.core.errors import import_object
from qanas.core.own_modules import callers_modules_kept, find_first_in, hiding_libraries

pytestmark = pytest.mark.usefixtures("modules_as_they_were")


def _folder(at: Path, name: str, **files: str) -> Path:
    """Write modules into a folder; a name's double underscore is a folder of its own."""
    for file, text in files.items():
        path = (at / name).joinpath(*f"{file}.py".split("__"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return at / name


MINE = "class Mine:\n    place = {!r}\n"


def _place(name: str) -> object:
    return getattr(import_object(name), "place")  # noqa: B009 - of a class that no type checker sees


@pytest.mark.parametrize("module", ["q_mine", "q_pack__mine", "q_pack__inner__mine"])
def test_each_folder_is_answered_with_its_own_module(tmp_path: Path, module: str) -> None:
    name = f"{module.replace('__', '.')}:Mine"
    for place in ("a", "b", "a", "b"):
        find_first_in(_folder(tmp_path, place, **{module: MINE.format(place)}))
        assert _place(name) == place


def test_a_module_that_another_folder_had_is_not_found(tmp_path: Path) -> None:
    find_first_in(_folder(tmp_path, "a", q_mine=MINE.format("a")))
    assert _place("q_mine:Mine") == "a"
    find_first_in(_folder(tmp_path, "b", q_other=""))
    with pytest.raises(ModuleNotFoundError, match="q_mine"):
        import_object("q_mine:Mine")


def test_what_a_module_takes_from_one_beside_it_is_of_its_folder(tmp_path: Path) -> None:
    text = "from q_sizes import PLACE\n\nclass Mine:\n    place = PLACE\n"
    for place in ("a", "b"):
        find_first_in(_folder(tmp_path, place, q_mine=text, q_sizes=f"PLACE = {place!r}\n"))
        assert _place("q_mine:Mine") == place


def test_objects_are_pickled_as_soon_as_their_folder_is_first_again(tmp_path: Path) -> None:
    a, b = (_folder(tmp_path, place, q_mine=MINE.format(place)) for place in ("a", "b"))
    find_first_in(a)
    made = import_object("q_mine:Mine")
    find_first_in(b)
    assert import_object("q_mine:Mine") is not made
    find_first_in(a)
    assert pickle.loads(pickle.dumps(made)) is made  # noqa: S301 - pickled a moment ago


def test_a_callers_module_of_the_same_name_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(_folder(tmp_path, "here", q_mine=MINE.format("here"))))
    before = import_object("q_mine:Mine")
    path = list(sys.path)
    with callers_modules_kept():
        find_first_in(_folder(tmp_path, "b", q_mine=MINE.format("b")))
        assert _place("q_mine:Mine") == "b"
    assert import_object("q_mine:Mine") is before
    assert sys.path == path
    find_first_in(tmp_path / "b")
    assert _place("q_mine:Mine") == "b"


@pytest.mark.parametrize("module", ["random", "numpy"])
def test_a_file_that_is_called_like_a_library_is_to_be_renamed(tmp_path: Path, module: str) -> None:
    folder = _folder(tmp_path, "a", **{module: MINE.format("a")})
    __import__(module)
    before = sys.modules[module]
    find_first_in(folder)
    with pytest.raises(ImportError, match=rf"a/{module}\.py has the name of .* a library, .*; rename it"):
        import_object(f"{module}:Mine")
    assert sys.modules[module] is before
    assert hiding_libraries(folder) == [folder / f"{module}.py"]


def test_what_hides_no_library_is_left_alone(tmp_path: Path) -> None:
    files = {"q_mine": "", "os": "", "sys": "", "json__notes": ""}  # Python has os before any path; json/ is a folder
    assert hiding_libraries(_folder(tmp_path, "a", **files)) == []
