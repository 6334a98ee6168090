"""Tables with a row a well: joined by the well's name, seen in wells, arrays and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from servers import CountingServer
from stores import write_plate

from ngff_xarray.errors import SelectionError, StoreError, UnsupportedError
from ngff_xarray.well_tables import join, joined

PLATE = {"image": {"axes": "yx", "shape": (16, 20)}, "fields": 1}
TABLE = pd.DataFrame({"well": ["A1", "A2", "B1", "B2"], "drug": list("abab"), "dose": range(4)})


@pytest.fixture
def plate(tmp_path: Path) -> xr.DataTree:
    return xr.open_datatree(write_plate(tmp_path / "p.ome.zarr", **PLATE))


def test_columns_stand_beside_what_is_known_of_wells(plate: xr.DataTree) -> None:
    wells = plate.ngff.join(TABLE).ngff.wells
    assert list(wells.columns)[-2:] == ["drug", "dose"]
    assert wells.loc["B/1"].to_dict()["drug"] == "a"
    assert list(wells["dose"]) == [0, 1, 2, 3]
    assert "drug" not in plate.ngff.wells  # which stays as it was


def test_columns_are_coordinates_along_the_wells(plate: xr.DataTree) -> None:
    array = join(plate, TABLE).ngff.to_array(fields=0)
    assert array["drug"].dims == ("well",)
    assert array["dose"].values.tolist() == [0, 1, 2, 3]
    means = array.groupby("drug").mean(...)
    expected = array.isel(well=[0, 2]).mean().item()
    assert means.sel(drug="a").item() == pytest.approx(expected)
    np.testing.assert_array_equal(array.isel(well=array["dose"] > 2)["well"], ["B/2"])


def test_in_rows_and_columns_they_have_both_dimensions(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", **PLATE, wells=["A/1", "B/1", "B/2"])
    table = TABLE[TABLE["well"] != "A2"]
    array = join(xr.open_datatree(path), table).ngff.to_array(fields=0, by="row")
    assert array["drug"].fillna("-").values.tolist() == [["a", "-"], ["a", "b"]]
    np.testing.assert_array_equal(array["dose"], [[0, np.nan], [2, 3]])


def test_rows_of_wells_choose_those_of_an_array(plate: xr.DataTree) -> None:
    tree = join(plate, TABLE)
    array = tree.ngff.to_array(wells=tree.ngff.wells.query("drug == 'b'"), fields=0)
    assert array["well"].values.tolist() == ["A/2", "B/2"]
    assert array["dose"].values.tolist() == [1, 3]


@pytest.mark.parametrize(
    "names", [["A/1", "B/2"], ["A1", "B2"], ["A01", "B002"], ["a1", "b 2"], [("A", 1), ("B", 2)]]
)
def test_wells_may_be_spelt_in_many_ways(plate: xr.DataTree, names: list[Any]) -> None:
    by_index = pd.DataFrame({"dose": [1, 2]}, index=names)
    assert list(joined(join(plate, by_index))["dose"].dropna()) == [1, 2]


def test_plates_that_count_from_01_are_found_by_1(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", **PLATE, columns=("01", "02"))
    table = join(xr.open_datatree(path), {"well": ["A1", "b02"], "dose": [1, 2]})
    assert joined(table)["dose"].dropna().to_dict() == {"A/01": 1, "B/02": 2}
    for name in ("A/01", "A01", "A/1", "A1", "a1"):
        assert table.ngff.well(name)["0/0/image"].size > 0
        assert table.ngff.to_array(wells=[name]).well.values.tolist() == ["A/01"]
    viewer = table.ngff.view()
    viewer.well = "b2"
    assert viewer.well == "B/02"
    viewer.close()


def test_names_that_mean_two_wells_have_to_be_clear(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", **PLATE, rows=["1", "11"], columns=["1", "11"])
    tree = xr.open_datatree(path)
    with pytest.raises(SelectionError, match="'111'"):
        join(tree, {"well": ["111"], "dose": [1]})
    assert joined(join(tree, {"well": ["1/11"], "dose": [1]}))["dose"].dropna().index == ["1/11"]
    both = write_plate(tmp_path / "q.ome.zarr", **PLATE, columns=["1", "01"])
    found = joined(join(xr.open_datatree(both), {"well": ["A1", "A01"], "dose": [1, 2]}))
    assert found["dose"].dropna().to_dict() == {"A/1": 1, "A/01": 2}


def test_tables_come_from_files_and_from_rows_and_columns(
    plate: xr.DataTree, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("Well, drug\nA01, none\nB02, new\n")
    assert joined(join(plate, tmp_path / "a.csv"))["drug"].dropna().tolist() == ["none", "new"]
    (tmp_path / "a.tsv").write_text("Row\tColumn\tdose\nA\t1\t0.5\nB\t2\t1.5\n")
    found = joined(join(plate, str(tmp_path / "a.tsv")))
    assert found["dose"].dropna().to_dict() == {"A/1": 0.5, "B/2": 1.5}
    series = pd.Series({"A1": 3.0}, name="count")
    assert joined(join(plate, series))["count"].dropna().tolist() == [3.0]


def test_what_is_joined_later_comes_beside_or_in_place(plate: xr.DataTree) -> None:
    first = join(plate, TABLE)
    second = join(first, {"well": ["A1"], "dose": [9], "count": [7]})
    found = joined(second)
    assert list(found.columns) == ["drug", "dose", "count"]
    assert found["drug"].tolist() == list("abab")
    assert found["dose"].dropna().tolist() == [9]


def test_the_plate_takes_its_table_along(plate: xr.DataTree, tmp_path: Path) -> None:
    days = pd.to_datetime(["2026-01-01", None, "2026-01-03", "2026-01-04"])
    table = TABLE.assign(day=days, kept=[True, False, None, True])
    join(plate, table).ngff.to_zarr(tmp_path / "q.ome.zarr", version="0.4")
    again = xr.open_datatree(tmp_path / "q.ome.zarr")
    assert joined(again)["day"].tolist()[0] == "2026-01-01T00:00:00"
    assert again.ngff.wells["kept"].tolist() == [True, False, None, True]
    assert again.ngff.to_array(fields=0)["drug"].values.tolist() == list("abab")
    assert not again.ngff.validate().errors


def test_heat_maps_draw_a_column(plate: xr.DataTree) -> None:
    tree = join(plate, TABLE)
    drawn = tree.ngff.plot(values="dose").images[-1].get_array()
    np.testing.assert_array_equal(drawn, [[0, 1], [2, 3]])
    with pytest.raises(SelectionError, match="no column 'size'; the wells have row, "):
        tree.ngff.plot(values="size")


def test_joining_reads_nothing(tmp_path: Path, server: CountingServer) -> None:
    write_plate(tmp_path / "p.ome.zarr", **PLATE)
    tree = xr.open_datatree(f"{server.url}/p.ome.zarr", engine="ngff")
    server.clear()
    join(tree, TABLE)
    assert server.count == 0


# ---- bad input -----------------------------------------------------------------------------------


def test_wells_that_the_plate_lacks_are_refused_or_dropped(plate: xr.DataTree) -> None:
    table = {"well": ["A1", "H12", "nowhere"], "dose": [1, 2, 3]}
    with pytest.raises(SelectionError, match=r"'H12', 'nowhere' of the table.*unmatched='drop'"):
        join(plate, table)
    tree = plate.ngff.join(table, unmatched="drop")
    assert joined(tree)["dose"].dropna().to_dict() == {"A/1": 1}


def test_wells_without_a_row_are_an_issue(plate: xr.DataTree) -> None:
    tree = join(plate, {"well": ["A1"], "dose": [1]})
    (issue,) = tree.ngff.issues
    assert issue.message == "the table has no row of the wells 'A/2', 'B/1', 'B/2'"
    assert join(tree, TABLE).ngff.issues == ()


def test_several_rows_of_a_well_are_refused(plate: xr.DataTree) -> None:
    with pytest.raises(SelectionError, match=r"several rows of the wells 'A/1'.*groupby"):
        join(plate, {"well": ["A1", "A/01"], "dose": [1, 2]})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"dose": [1, 2]}, "expected a column 'well'.*found 'dose'"),
        ({"well": ["A1"], "fields": [2]}, "column 'fields' is there already"),
        ({"well": ["A1"], "dose": [1, 2]}, "are no table"),
        (3, "found int"),
    ],
)
def test_tables_that_are_none_say_so(plate: xr.DataTree, table: Any, message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        join(plate, table)


def test_what_cannot_be_written_is_refused(plate: xr.DataTree, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="column 'z' holds"):
        join(plate, {"well": ["A1"], "z": [1j]})
    with pytest.raises(StoreError, match="cannot be read as a table"):
        join(plate, tmp_path / "none.csv")


@pytest.mark.parametrize(
    "said", [3, {"well": 1}, {"well": ["A/1"], "a": []}, {"well": ["A/1", "A/1"], "a": [1, 2]}]
)
def test_attributes_of_others_by_that_name_do_no_harm(tmp_path: Path, said: Any) -> None:
    path = tmp_path / "p.ome.zarr"
    tree = xr.open_datatree(write_plate(path, **PLATE, attributes={"well_table": said}))
    assert list(tree.ngff.wells.columns) == list(tree.ngff.wells.columns)[:5]
    assert set(tree.ngff.to_array(fields=0).coords) == {"well", "row", "column", "field", "y", "x"}
