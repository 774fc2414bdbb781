// Fills the shelves. When the shop cannot reach its database it says so instead of showing old books.
(async () => {
  const list = document.getElementById("books");
  const trouble = document.getElementById("trouble");
  try {
    const answer = await fetch("/books/");
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error);
    for (const book of body.books) {
      const item = document.createElement("li");
      const author = document.createElement("em");
      author.textContent = book.author;
      item.append(book.title, author);
      list.append(item);
    }
  } catch (error) {
    trouble.textContent = "The shelves are out of reach right now. Please try again in a moment.";
    trouble.title = error.message;
    trouble.hidden = false;
  }
})();
