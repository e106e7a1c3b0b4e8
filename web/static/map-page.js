// The map as a page of its own.

import "./page.js";
import { openMap } from "./map.js";

const canvas = document.querySelector("canvas");
if (canvas) openMap(canvas);
