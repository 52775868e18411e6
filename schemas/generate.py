"""Write schemas/emstore_schemas/v1/ anew from emstore's models. Run by ``make schemas``."""

import json
from pathlib import Path

from emstore.store.documents import schemas

FOLDER = Path(__file__).resolve().parent / "emstore_schemas" / "v1"


def main() -> None:
    """Replace every schema file, and remove those whose document is gone."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.schema.json"):
        old.unlink()
    for name, schema in schemas().items():
        (FOLDER / f"{name}.schema.json").write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
