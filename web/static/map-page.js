// The page of the map.

import "./page.js";
import { openMap } from "./map.js";

const canvas = document.querySelector("canvas");
if (canvas) openMap(canvas);
