// A table whose rows are clicked, or chosen with Enter; the row's id is sent as the trigger `pick`.
export default function ({ parentElement, data, setTriggerValue }) {
  const table = parentElement.querySelector("table");
  const head = document.createElement("tr");
  for (const column of data.columns) {
    const cell = document.createElement("th");
    cell.textContent = column;
    head.append(cell);
  }
  table.tHead.replaceChildren(head);
  const rows = data.rows.map(({ id, cells }) => {
    const row = document.createElement("tr");
    row.tabIndex = 0;
    row.dataset.lesion = id;
    row.setAttribute("aria-selected", String(id === data.selected));
    for (const text of cells) {
      const cell = document.createElement("td");
      cell.textContent = text;
      row.append(cell);
    }
    const pick = () => setTriggerValue("pick", id);
    row.onclick = pick;
    row.onkeydown = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      pick();
    };
    return row;
  });
  table.tBodies[0].replaceChildren(...rows);
}
