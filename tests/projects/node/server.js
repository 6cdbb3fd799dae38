const express = require('express');
const app = express();
app.get('/', (request, response) => response.send(`node says ${require('express/package.json').version}\n`));
app.listen(3000);
